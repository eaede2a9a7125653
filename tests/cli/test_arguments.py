"""The command line becomes options; wrong usage is explained."""

import argparse
import re
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.cli.arguments import build_parser, parse_arguments
from exporter.cli.options import (
    Check,
    Decode,
    Demo,
    LogOptions,
    Options,
    Read,
    ReadSettings,
    Scan,
    Serve,
)
from exporter.cli.parser import arguments_of, commands_of
from exporter.logs import LogFormat


def options(*arguments: str) -> Options:
    return parse_arguments(arguments)[1]


def log_options(*arguments: str) -> LogOptions:
    return parse_arguments(arguments)[0]


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--nonsense"],
            ["fly"],
            ["decode"],
            ["read", "--format", "xml"],
            ["settings", "--format", "xml"],
            ["scan", "--duration", "10"],
            ["scan", "--duration", "0s"],
            ["scan", "--adapter", "usb0"],
            ["demo", "--speed", "0"],
            ["demo", "--speed", "nan"],
            ["demo", "--speed", "fast"],
            ["demo", "--replay", "file"],
            ["demo", "--replay", "=file"],
            ["demo", "--replay", "two\nlines=file"],
            ["--web.timeout-offset", "0.5"],
            ["--web.telemetry-path", "metrics"],
            ["--web.telemetry-path", "/probe"],
            ["--web.telemetry-path", "/-/x"],
            ["--log.level", "loud"],
            ["--log.format", "xml"],
            ["--web.systemd-socket", "--web.listen-address", ":1"],
        ],
    )
    def test_wrong_usage_ends_with_status_2_and_a_reason(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)

        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("bms-exporter")
        assert line.endswith(" --help")

    @pytest.mark.parametrize(
        "arguments", [["--help"], ["scan", "--help"], ["read", "--help"], ["demo", "--help"]]
    )
    def test_help_is_printed(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)

        assert caught.value.code == 0
        assert "usage: bms-exporter" in capsys.readouterr().out

    @pytest.mark.parametrize("command", ["", *commands_of(build_parser())])
    def test_help_fits_a_terminal_of_80_columns(
        self, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])

        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80

    def test_version_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--version"])

        assert capsys.readouterr().out.startswith("bms-exporter 0.")


class TestOptions:
    def test_without_a_command_the_exporter_serves_with_the_defaults(self) -> None:
        given = options()

        assert isinstance(given, Serve)
        assert given.config_file == Path("config.yaml")
        assert list(given.web.listen_addresses) == [":12200"]
        assert (given.web.telemetry_path, given.web.timeout_offset_s) == ("/metrics", 0.5)
        assert (given.web.web_config, given.web.systemd_sockets) == (None, False)

    def test_every_option_of_serving_is_read(self) -> None:
        given = options(
            "--config.file=a.yaml",
            "--web.listen-address=:1",
            "--web.listen-address=:2",
            "--web.config.file=web.yml",
            "--web.telemetry-path=/m",
            "--web.timeout-offset=1s",
        )

        assert isinstance(given, Serve)
        assert given.config_file == Path("a.yaml")
        assert list(given.web.listen_addresses) == [":1", ":2"]
        assert given.web.web_config == Path("web.yml")
        assert (given.web.telemetry_path, given.web.timeout_offset_s) == ("/m", 1.0)

    @pytest.mark.parametrize("command", [["--config.check"], ["decode", "DD"]])
    def test_addresses_to_serve_on_do_not_stop_other_commands(self, command: list[str]) -> None:
        assert options("--web.systemd-socket", "--web.listen-address", ":1", *command)

    def test_systemd_socket_is_an_option_of_serving(self) -> None:
        given = options("--web.systemd-socket")

        assert isinstance(given, Serve)
        assert given.web.systemd_sockets

    def test_empty_web_config_file_is_none(self) -> None:
        assert options("--config.check", "--web.config.file=") == Check()

    def test_check_keeps_both_files(self) -> None:
        given = options("--config.check", "--config.file=a.yaml", "--web.config.file=web.yml")

        assert given == Check(config_file=Path("a.yaml"), web_config=Path("web.yml"))

    @pytest.mark.parametrize(
        "arguments",
        [("--config.file", "a.yaml", "read"), ("read", "--config.file", "a.yaml")],
    )
    def test_option_counts_before_and_after_the_command(self, arguments: tuple[str, ...]) -> None:
        assert options(*arguments) == Read(config_file=Path("a.yaml"))

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["read"], Read()),
            (["read", "camper", "--format", "json"], Read(battery="camper", format="json")),
            (["settings"], ReadSettings()),
            (
                ["settings", "camper", "--all", "--format=metrics"],
                ReadSettings(battery="camper", all=True, format="metrics"),
            ),
            (["scan"], Scan()),
            (
                ["scan", "--adapter=hci1", "--duration=2s", "--all"],
                Scan(adapter="hci1", duration_s=2.0, all=True),  # type: ignore[arg-type]
            ),
            (["decode", "dd03", "-"], Decode(frames=["dd03", "-"])),
            (["decode", "-", "--format", "json"], Decode(frames=["-"], format="json")),
        ],
    )
    def test_each_command_has_its_options(self, arguments: list[str], expected: Options) -> None:
        assert options(*arguments) == expected

    def test_demo_has_the_options_of_serving_and_its_own(self) -> None:
        given = options("demo", "--speed=60", "--replay=a=x.hex", "--web.listen-address=:1")

        assert isinstance(given, Demo)
        assert list(given.replay) == [("a", Path("x.hex"))]
        assert given.speed == 60.0
        assert list(given.web.listen_addresses) == [":1"]


class TestLogOptions:
    @pytest.mark.parametrize(
        ("arguments", "level"),
        [
            ([], "info"),
            (["demo"], "info"),
            (["decode", "-"], "info"),
            (["read"], "error"),
            (["settings"], "error"),
            (["scan"], "error"),
            (["--log.level=debug", "read"], "debug"),
            (["scan", "--log.level=debug"], "debug"),
        ],
    )
    def test_level_depends_on_the_command_unless_it_is_given(
        self, arguments: list[str], level: str
    ) -> None:
        assert log_options(*arguments).level == level

    def test_format_and_redaction_are_read(self) -> None:
        assert log_options() == LogOptions(
            level="info", log_format=LogFormat.LOGFMT, redact_addresses=False
        )
        assert log_options("--log.format=json", "--log.redact-addresses") == LogOptions(
            level="info", log_format=LogFormat.JSON, redact_addresses=True
        )


def options_with_a_value() -> list[tuple[str, argparse.Action]]:
    parser = build_parser()
    return [
        (name, action)
        for name, one in ({"": parser} | commands_of(parser)).items()
        for action in arguments_of(one)
        if action.option_strings and action.nargs != 0
    ]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        pytest.param(*one, id=f"{one[0]} {one[1].option_strings[-1]}".strip())
        for one in options_with_a_value()
    ],
)
def test_help_names_the_default_of_each_option(command: str, option: argparse.Action) -> None:
    log_given, given = parse_arguments({"": [], "decode": ["decode", "DD"]}.get(command, [command]))
    named = re.search(r"\(default: (.*)\)$", option.help or "")
    if option.dest == "config_file":
        assert named  # two places; some commands read neither
        return
    sources = [given, getattr(given, "web", None), log_given]
    attribute = {"log_level": "level"}.get(option.dest, option.dest)
    (default,) = (getattr(one, attribute) for one in sources if hasattr(one, attribute))

    if default is None or default == ():
        return  # without the option nothing is done; some options say what is done instead
    assert named
    parse = option.type if callable(option.type) else str
    assert parse(named[1]) == (default[0] if isinstance(default, tuple) else default)
