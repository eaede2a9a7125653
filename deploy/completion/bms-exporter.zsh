#compdef bms-exporter
# Completion of bms-exporter for zsh. Made by `make docs` from exporter/cli.

_bms_exporter() {
    local state
    local -a commands
    commands=(
        'scan:list the batteries nearby'
        'read:read one battery once'
        'settings:read the limits and other settings of one battery once'
        'doctor:find out why a battery cannot be read'
        'decode:explain recorded reply frames'
        'demo:serve virtual batteries, without Bluetooth'
        'help:print the help of a command'
    )
    _arguments -C \
        '*-h[print this help and exit]' \
        '*--help[print this help and exit]' \
        '*--version[print the version and exit]' \
        '*--config.check[check the configuration and exit]' \
        '*--config.example[print a configuration with every option and exit]' \
        '*--web.listen-address=[HOST\:PORT or \:PORT to serve on; repeatable (default\: \:12200)]:ADDRESS:' \
        '*--web.config.file=[TLS, users and headers, in the format of Prometheus'\'' exporter-toolkit (default\: no file)]:FILE:_files' \
        '*--web.systemd-socket[serve on the sockets of systemd instead of listen addresses]' \
        '*--web.telemetry-path=[where the metrics are (default\: /metrics)]:PATH:' \
        '*--web.timeout-offset=[how much of Prometheus'\'' scrape time-out is kept in reserve (default\: 500ms)]:DURATION:' \
        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: info)]:LEVEL:(debug info warning error)' \
        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
        '*--log.redact-addresses[log only the first half of Bluetooth addresses]' \
        '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
                scan)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*--adapter=[listen with this Bluetooth adapter\: hci0 and the like, or its address (default\: the first that is switched on)]:ADAPTER:' \
                        '*--proxy=[listen through a proxy of the configuration]:NAME:' \
                        '*--demo[use the virtual batteries of the demo\: camper, camper2, flaky and cold]' \
                        '*--duration=[how long to listen (default\: 10s)]:DURATION:' \
                        '*--all[list every device, not only JBD]' \
                        '*--no-read[connect to nothing\: do not read the devices that only may be JBD batteries (about 3 s each, 15 s if one does not answer)]' \
                        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
                        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: error)]:LEVEL:(debug info warning error)' \
                        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
                        '*--log.redact-addresses[log only the first half of Bluetooth addresses]'
                    ;;
                read)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*:NAME|ADDRESS:' \
                        '*--format=[the form of the output\: table, json, metrics (default\: table)]:FORMAT:(table json metrics)' \
                        '*--record=[record the session into a new FILE, without address, password and serial number]:FILE:_files' \
                        '*--replay=[run a recorded session instead of reading a battery; needs no Bluetooth]:FILE:_files' \
                        '*--demo[use the virtual batteries of the demo\: camper, camper2, flaky and cold]' \
                        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
                        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: error)]:LEVEL:(debug info warning error)' \
                        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
                        '*--log.redact-addresses[log only the first half of Bluetooth addresses]'
                    ;;
                settings)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*:NAME|ADDRESS:' \
                        '*--all[show what is rarely needed, too]' \
                        '*--format=[the form of the output\: table, json, metrics (default\: table)]:FORMAT:(table json metrics)' \
                        '*--demo[use the virtual batteries of the demo\: camper, camper2, flaky and cold]' \
                        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
                        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: error)]:LEVEL:(debug info warning error)' \
                        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
                        '*--log.redact-addresses[log only the first half of Bluetooth addresses]'
                    ;;
                doctor)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*:NAME|ADDRESS:' \
                        '*--quick[check the machine only, without radio]' \
                        '*--link=[the ways to a battery to try\: direct, bluez or both (default\: what may help)]:LINK:(direct bluez both)' \
                        '*--json=[write the facts to FILE, too]:FILE:_files' \
                        '*--record=[record every connection into a new FILE, without address, password and serial number]:FILE:_files' \
                        '*--show-addresses[show whole addresses and names; without it, the output may be published]' \
                        '*--exporter=[the exporter that leaves the batteries alone meanwhile (default\: http\://127.0.0.1\:12200)]:URL:' \
                        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
                        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: error)]:LEVEL:(debug info warning error)' \
                        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
                        '*--log.redact-addresses[log only the first half of Bluetooth addresses]'
                    ;;
                decode)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*:HEX|FILE|-:_files' \
                        '*--format=[the form of the output\: explain, json, metrics (default\: explain)]:FORMAT:(explain json metrics)' \
                        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
                        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: info)]:LEVEL:(debug info warning error)' \
                        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
                        '*--log.redact-addresses[log only the first half of Bluetooth addresses]'
                    ;;
                demo)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*--speed=[run the day faster\: 60 is an hour a minute (default\: 1)]:NUMBER:' \
                        '*--replay=[serve the recorded reply frames of FILE as NAME; repeatable. FILE is a recording, or holds what decode takes]:NAME=FILE:_files' \
                        '*--web.listen-address=[HOST\:PORT or \:PORT to serve on; repeatable (default\: \:12200)]:ADDRESS:' \
                        '*--web.config.file=[TLS, users and headers, in the format of Prometheus'\'' exporter-toolkit (default\: no file)]:FILE:_files' \
                        '*--web.systemd-socket[serve on the sockets of systemd instead of listen addresses]' \
                        '*--web.telemetry-path=[where the metrics are (default\: /metrics)]:PATH:' \
                        '*--web.timeout-offset=[how much of Prometheus'\'' scrape time-out is kept in reserve (default\: 500ms)]:DURATION:' \
                        '*--config.file=[the configuration (default\: config.yaml in this folder, or in /etc/bms-exporter/)]:FILE:_files' \
                        '*--log.level=[least severe level to log\: debug, info, warning, error (default\: info)]:LEVEL:(debug info warning error)' \
                        '*--log.format=[form of a log line\: logfmt or json (default\: logfmt)]:FORMAT:(logfmt json)' \
                        '*--log.redact-addresses[log only the first half of Bluetooth addresses]'
                    ;;
                help)
                    _arguments \
                        '*-h[print this help and exit]' \
                        '*--help[print this help and exit]' \
                        '*:COMMAND:(scan read settings doctor decode demo)'
                    ;;
            esac
            ;;
    esac
}
_bms_exporter "$@"
