# Completion of bms-exporter for bash. Made by `make docs` from exporter/cli.

_bms_exporter() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command= word
    # bash splits --option=value into three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        case $word in
            scan | read | settings | doctor | decode | demo | help)
                command=$word
                break
                ;;
        esac
    done
    COMPREPLY=()
    case $command:$prev in
        :--web.listen-address) return ;;
        :--web.config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        :--web.telemetry-path) return ;;
        :--web.timeout-offset) return ;;
        :--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        :--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        :--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
        scan:--adapter) return ;;
        scan:--proxy) return ;;
        scan:--duration) return ;;
        scan:--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        scan:--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        scan:--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
        read:--format) COMPREPLY=($(compgen -W "table json metrics" -- "$cur")); return ;;
        read:--record) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        read:--replay) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        read:--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        read:--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        read:--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
        settings:--format) COMPREPLY=($(compgen -W "table json metrics" -- "$cur")); return ;;
        settings:--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        settings:--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        settings:--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
        doctor:--link) COMPREPLY=($(compgen -W "direct bluez both" -- "$cur")); return ;;
        doctor:--json) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        doctor:--record) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        doctor:--exporter) return ;;
        doctor:--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        doctor:--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        doctor:--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
        decode:--format) COMPREPLY=($(compgen -W "explain json metrics" -- "$cur")); return ;;
        decode:--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        decode:--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        decode:--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
        demo:--speed) return ;;
        demo:--replay) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        demo:--web.listen-address) return ;;
        demo:--web.config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        demo:--web.telemetry-path) return ;;
        demo:--web.timeout-offset) return ;;
        demo:--config.file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        demo:--log.level) COMPREPLY=($(compgen -W "debug info warning error" -- "$cur")); return ;;
        demo:--log.format) COMPREPLY=($(compgen -W "logfmt json" -- "$cur")); return ;;
    esac
    case $command:$cur in
        :-*) COMPREPLY=($(compgen -W "-h --help --version --config.check --config.example --web.listen-address --web.config.file --web.systemd-socket --web.telemetry-path --web.timeout-offset --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        :*) COMPREPLY=($(compgen -W "scan read settings doctor decode demo help" -- "$cur")) ;;
        scan:-*) COMPREPLY=($(compgen -W "-h --help --adapter --proxy --demo --duration --all --no-read --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        read:-*) COMPREPLY=($(compgen -W "-h --help --format --record --replay --demo --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        settings:-*) COMPREPLY=($(compgen -W "-h --help --all --format --demo --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        doctor:-*) COMPREPLY=($(compgen -W "-h --help --quick --link --json --record --show-addresses --exporter --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        decode:-*) COMPREPLY=($(compgen -W "-h --help --format --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        decode:*) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); ;;
        demo:-*) COMPREPLY=($(compgen -W "-h --help --speed --replay --web.listen-address --web.config.file --web.systemd-socket --web.telemetry-path --web.timeout-offset --config.file --log.level --log.format --log.redact-addresses" -- "$cur")) ;;
        help:-*) COMPREPLY=($(compgen -W "-h --help" -- "$cur")) ;;
        help:*) COMPREPLY=($(compgen -W "scan read settings doctor decode demo" -- "$cur")) ;;
    esac
}
complete -F _bms_exporter bms-exporter
