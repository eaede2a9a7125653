"""Command lines as people type them wrongly: one sentence each, with the cure and exit status 2."""

import pytest

from exporter.cli import main
from exporter.cli.arguments import build_parser
from exporter.cli.parser import commands_of

COMMANDS = "scan, read, settings, doctor, decode, demo, help"


@pytest.mark.parametrize(
    ("line", "command", "complaint"),
    [
        ("--config", "", "unknown option --config: did you mean --config.file?"),
        ("--config config.yaml", "", "unknown option --config: did you mean --config.file?"),
        ("--config-file=a.yaml", "", "unknown option --config-file: did you mean --config.file?"),
        ("--port 12201", "", "unknown option --port: did you mean --web.listen-address?"),
        ("-v", "", "unknown option -v: did you mean --log.level debug?"),
        ("-f config.yaml", "", "unknown option -f: did you mean --config.file?"),
        ("-p 9000", "", "unknown option -p: did you mean --web.listen-address?"),
        ("--web.port 9000", "", "unknown option --web.port: did you mean --web.listen-address?"),
        ("--quiet", "", "unknown option --quiet: did you mean --log.level error?"),
        ("\N{EN DASH}-help", "", "unknown command \N{EN DASH}-help: did you mean --help?"),
        ("\N{EM DASH}help", "", "unknown command \N{EM DASH}help: did you mean --help?"),
        ("-x", "", "unknown option -x."),
        ("-- read", "", "unknown option --."),
        (
            "--format json read camper", "",
            ("unknown option --format: it is an option of read, settings and decode and stands "
            "after the command."),
        ),
        (
            "--duration 5s", "",
            "unknown option --duration: it is an option of scan and stands after the command.",
        ),
        ("reed camper", "", "unknown command reed: did you mean read?"),
        ("fly", "", f"unknown command fly: expected one of {COMMANDS}."),
        ("''", "", f"unknown command '': expected one of {COMMANDS}."),
        ("serve", "", "unknown command serve: did you mean bms-exporter without a command?"),
        ("check", "", "unknown command check: did you mean bms-exporter --config.check?"),
        ("mine.yaml", "", "unknown command mine.yaml: did you mean --config.file mine.yaml?"),
        (
            "A4:C1:38:12:34:56", "",
            "unknown command A4:C1:38:12:34:56: did you mean bms-exporter read A4:C1:38:12:34:56?",
        ),
        (
            "--log.level loud", "",
            "--log.level: expected one of debug, info, warning, error, got 'loud'.",
        ),
        (
            "--web.listen-address", "",
            "--web.listen-address needs a value: --web.listen-address ADDRESS.",
        ),
        ("--config.check=yes", "", "--config.check takes no value."),
        (
            "--web.systemd-socket --web.listen-address :1", "",
            "--web.systemd-socket: cannot be used together with --web.listen-address.",
        ),
        ("read camper --formt json", " read", "unknown option --formt: did you mean --format?"),
        ("read camper --json", " read", "unknown option --json: did you mean --format json?"),
        (
            "read --duration 5s", " read",
            "unknown option --duration: it is an option of scan.",
        ),
        (
            "read --web.telemetry-path /m", " read",
            ("unknown option --web.telemetry-path: it is an option of bms-exporter without a "
            "command."),
        ),
        (
            "read camper --format xml", " read",
            "--format: expected one of table, json, metrics, got 'xml'.",
        ),
        ("read camper boat", " read", "boat is too much: expected one NAME|ADDRESS."),
        ("read -- camper boat", " read", "boat is too much: expected one NAME|ADDRESS."),
        (
            "read camper --replay a.bms", " read",
            "--replay: cannot be used together with NAME|ADDRESS.",
        ),
        (
            "read --record a --replay b", " read",
            "--replay: cannot be used together with --record.",
        ),
        ("scan camper", " scan", "camper is too much: expected options only."),
        ("scan --duration --all", " scan", "--duration needs a value: --duration DURATION."),
        (
            "scan --duration 10", " scan",
            "--duration: expected a duration with its unit like 10s, 2m or 500ms, got '10'.",
        ),
        ("decode", " decode", "expected HEX|FILE|-."),
        (
            "doctor --link usb", " doctor",
            "--link: expected one of direct, bluez, both, got 'usb'.",
        ),
        (
            "demo --speed -1", " demo",
            "--speed: expected a number above 0, up to 86400, got '-1'.",
        ),
        ("demo --replay x", " demo", "--replay: expected NAME=FILE, got 'x'."),
        (
            "help fly", " help",
            "COMMAND: expected one of scan, read, settings, doctor, decode, demo, got 'fly'.",
        ),
    ],
)  # fmt: skip
def test_wrong_command_line_gets_one_sentence_with_the_cure(
    line: str, command: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["" if word == "''" else word for word in line.split()]

    with pytest.raises(SystemExit) as caught:
        main(words)

    program = f"bms-exporter{command}"
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"{program}: {complaint} See {program} --help\n"


def test_argument_with_a_line_break_is_quoted_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["a\nb"])

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(r"bms-exporter: unknown command 'a\nb': expected one of scan")


@pytest.mark.parametrize("command", ["", *commands_of(build_parser())])
def test_help_of_each_command_has_what_it_does_its_own_options_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    direct = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["help", *command.split()])

    assert caught.value.code == 0
    assert direct.startswith(f"usage: bms-exporter {command}".rstrip())
    if command != "help":  # its own help is that of the program
        assert capsys.readouterr().out == direct
        assert 0 < direct.index("\noptions:\n") < direct.index("\ncommon options:\n")
    assert "\nfor example:\n  bms-exporter" in direct
