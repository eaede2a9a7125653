"""The configuration: strict, and every mistake told at once; each wrong file states its own."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config.schema import (
    BatteryConfig,
    Config,
    Link,
    ManagementConfig,
    PollConfig,
    load,
    normal_address,
    parse,
    parse_duration,
)
from exporter.errors import ConfigError
from tests.support.paths import PROJECT

ROOT = PROJECT
EXAMPLE = ROOT / "config.example.yaml"
WRONG = sorted((Path(__file__).parent / "invalid").glob("*.yaml"))
ONE = 'batteries:\n  - {name: camper, address: "A4:C1:38:00:00:01"}\n'


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return list(caught.value.problems)


def battery(extra: str) -> BatteryConfig:
    (one,) = parse(f"batteries:\n  - name: camper\n    {extra}\n").batteries
    return one


class TestWrongFiles:
    @pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
    def test_it_is_told_everything_that_is_wrong_with_it(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        expected = [
            line.removeprefix("# expect: ")
            for line in text.splitlines()
            if line.startswith("# expect: ")
        ]

        assert sorted(complaints(text)) == sorted(expected)

    @pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
    def test_from_the_top_down(self, path: Path) -> None:
        lines = [
            int(complaint.split(":")[0].removeprefix("line "))
            for complaint in complaints(path.read_text(encoding="utf-8"))
        ]

        assert lines == sorted(lines)

    def test_the_name_of_the_file_stands_before_each(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("batteries: 5\nspeed: 1\n")

        with pytest.raises(ConfigError) as caught:
            load(path)

        assert caught.value.problems == (
            f"{path}: line 1: batteries: expected a list of batteries, got 5",
            f"{path}: line 2: speed: unknown key",
        )

    def test_a_missing_file_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"No such file or directory; see config.example"):
            load(tmp_path / "config.yaml")

    def test_so_is_one_that_is_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(b"\xff\xfe\x00")

        with pytest.raises(ConfigError, match="it is not UTF-8 text"):
            load(path)

    def test_deep_nesting_is_a_complaint(self) -> None:
        assert complaints("[" * 10_000) == ["line 1: nested too deeply"]

    def test_so_is_a_mapping_as_a_key(self) -> None:
        assert "line 1: ?: unknown key" in complaints("{[a]: 1}")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            pytest.param(
                "batteries: [" + "{}," * 30_000 + "]",
                "line 1: more than 10000 values",
                id="values",
            ),
            pytest.param(
                f"x: &a {'y' * 70_000}\nbatteries: [" + "{name: *a}," * 2500 + "]",
                "line 1: more than 1000000 characters",
                id="complaints that quote 70 kB",
            ),
            pytest.param(
                f"? {'k' * 80_000}\n: [" + "1," * 9000 + "]",
                "line 2: more than 1000000 characters",
                id="paths of 80 kB",
            ),
        ],
    )
    def test_a_hundred_kilobytes_do_not_become_a_gigabyte(self, text: str, complaint: str) -> None:
        assert complaints(text) == [complaint]

    @pytest.mark.parametrize("number", ["0x" + "f" * 5000, "1" * 5000, "1" + ":1" * 5000])
    def test_a_number_that_python_does_not_print_is_text(self, number: str) -> None:
        text = ONE.replace("name: camper", f"name: {number}")

        (complaint,) = complaints(text)
        assert complaint.startswith("line 2: batteries[0].name: expected 1 to 64 printable")
        assert complaint.endswith(f", got {number!r}")


class TestDefaults:
    def test_only_name_and_address_are_needed(self) -> None:
        assert parse(ONE) == Config(
            batteries=(
                BatteryConfig(
                    name="camper",  # type: ignore[arg-type]
                    address=normal_address("A4:C1:38:00:00:01"),
                    adapter=None,
                    profile=None,
                    cells=True,
                    hardware=True,
                    counters=True,
                    password_file=None,
                ),
            ),
            poll=PollConfig(
                timeout_s=30.0,  # type: ignore[arg-type]
                min_interval_s=10.0,  # type: ignore[arg-type]
                max_age_s=120.0,  # type: ignore[arg-type]
                backoff_max_s=300.0,  # type: ignore[arg-type]
            ),
        )

    def test_every_option_is_taken(self) -> None:
        config = parse(
            'batteries:\n  - {name: camper, address: "A4:C1:38:00:00:01", adapter: hci1, '
            "profile: nus, cells: false, hardware: false, counters: false}\n"
            "poll: {timeout: 45s, min_interval: 0s, max_age: 5m, backoff_max: 1h}\n"
        )

        (one,) = config.batteries
        assert config.link is Link.AUTO
        assert config.management == ManagementConfig()
        assert (one.adapter, one.profile) == ("hci1", "nus")
        assert (one.cells, one.hardware, one.counters) == (False, False, False)
        poll = config.poll
        assert (poll.timeout_s, poll.min_interval_s) == (45.0, 0.0)
        assert (poll.max_age_s, poll.backoff_max_s) == (300.0, 3600.0)

    @pytest.mark.parametrize(
        "poll", ["timeout: 1s", "timeout: 600s", "min_interval: 1h, max_age: 24h", "max_age: 0"]
    )
    def test_the_limits_themselves_are_allowed(self, poll: str) -> None:
        parse(f"{ONE}poll: {{{poll}}}\n")

    def test_max_age_may_be_as_short_as_min_interval(self) -> None:
        assert parse(f"{ONE}poll: {{max_age: 10s}}\n").poll.max_age_s == 10.0

    def test_the_example_is_a_good_file_that_shows_the_defaults(self) -> None:
        example = EXAMPLE.read_text(encoding="utf-8")
        plain = parse(example)
        shown = yaml.safe_load(_uncommented(example))

        assert plain.poll == PollConfig()
        assert len(plain.batteries) == 1
        poll = parse(f"{ONE}{yaml.safe_dump({'poll': shown['poll']})}").poll
        assert poll == PollConfig()
        assert set(shown["poll"]) == {"timeout", "min_interval", "max_age", "backoff_max"}
        for option in ("cells", "hardware", "counters"):
            assert shown["batteries"][0][option] is True
        assert set(shown["batteries"][0]) == {
            "name", "address", "adapter", "link", "profile", "cells", "hardware", "counters",
            "password_file",
        }  # fmt: skip
        assert shown["link"] == Config(batteries=()).link
        assert shown["management"] == asdict(ManagementConfig())
        assert "password_env" in example

    def test_the_example_can_be_used_with_every_line_uncommented(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(_uncommented(EXAMPLE.read_text(encoding="utf-8")))
        (tmp_path / "camper.pin").write_text("123456\n")

        assert load(path).batteries[0].password == b"123456"

    def test_the_example_can_be_used_as_it_is(self) -> None:
        assert load(EXAMPLE).batteries[0].name == "camper"


def _uncommented(text: str) -> str:
    """Return the example with its options switched on: those behind "# " and an indent."""

    def lines() -> Iterator[str]:
        for line in text.splitlines():
            stripped = line.lstrip()
            option = stripped.removeprefix("# ")
            if stripped not in (line, option) and ":" in option.partition("#")[0]:
                yield line[: len(line) - len(stripped)] + option
            else:
                yield line

    return "\n".join(lines())


class TestAddress:
    @pytest.mark.parametrize(
        ("written", "address"),
        [
            pytest.param("10:20:30:40:50:59", "10:20:30:40:50:59", id="digits: a number in YAML"),
            pytest.param("01:20:30:40:50:59", "01:20:30:40:50:59", id="digits: text in YAML"),
            pytest.param("a4:c1:38:00:00:0f", "A4:C1:38:00:00:0F", id="lower case"),
            pytest.param("A4-C1-38-00-00-0F", "A4:C1:38:00:00:0F", id="dashes"),
            pytest.param('"A4:C1:38:00:00:0F"', "A4:C1:38:00:00:0F", id="in quotes"),
        ],
    )
    def test_it_may_be_written(self, written: str, address: str) -> None:
        assert battery(f"address: {written}").address == address

    @pytest.mark.parametrize(
        "text", ["", "A4:C1", "A4:C1:38:00:00:0G", "A4:C1:38:00:00:01:02", "A4C138000001", "a b"]
    )
    def test_anything_else_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a Bluetooth address"):
            normal_address(text)


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("30s", 30.0),
            ("2m", 120.0),
            ("1h", 3600.0),
            ("500ms", 0.5),
            ("1m30s", 90.0),
            ("1h2m3s4ms", 3723.004),
            ("0s", 0.0),
            ("1.5s", 1.5),
            (0, 0.0),
        ],
    )
    def test_it_carries_its_unit(self, text: object, seconds: float) -> None:
        assert parse_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text", ["30", "", "s", "-1s", "1d", "1 s", "1s1m", "1.s", "soon", 30, 0.0, False, None, []]
    )
    def test_anything_else_is_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="duration with its unit"):
            parse_duration(text)


class TestLinks:
    @pytest.mark.parametrize("link", list(Link))
    def test_there_is_one_for_all_and_one_for_each(self, link: Link) -> None:
        config = parse(ONE.replace('"}', f'", link: {link}}}') + f"link: {link}\n")

        assert (config.link, config.batteries[0].link) == (link, link)

    def test_another_is_refused(self) -> None:
        assert complaints(f"{ONE}link: usb\n") == [
            "line 3: link: expected one of auto, direct, bluez, got 'usb'"
        ]

    @pytest.mark.parametrize("name", ["release", "parameters", "power", "rssi"])
    def test_every_use_of_the_management_socket_can_be_turned_off(self, name: str) -> None:
        config = parse(f"{ONE}management: {{{name}: false}}\n")

        assert getattr(config.management, name) is False

    def test_a_use_that_there_is_not_is_named(self) -> None:
        assert complaints(f"{ONE}management: {{rsi: true}}\n") == [
            "line 3: management.rsi: unknown key, did you mean rssi?"
        ]

    def test_all_of_them_may_be_commented_out(self) -> None:
        assert parse(f"{ONE}management:\n").management == ManagementConfig()


class TestPasswordOfTheEnvironment:
    def write(self, folder: Path, more: str = "") -> Path:
        path = folder / "config.yaml"
        path.write_text(ONE.replace('"}', f'", password_env: CAMPER_PIN{more}}}'))
        return path

    def test_it_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CAMPER_PIN", "123456")

        config = load(self.write(tmp_path))

        assert config.batteries[0].password == b"123456"
        assert "123456" not in repr(config)

    def test_a_variable_that_is_not_set_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="the variable CAMPER_PIN is not set"):
            load(self.write(tmp_path))

    def test_its_length_is_checked_and_it_is_not_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CAMPER_PIN", "1234567")

        with pytest.raises(ConfigError, match="expected 6 bytes, got 7") as caught:
            load(self.write(tmp_path))

        assert "1234567" not in str(caught.value)

    def test_a_file_beside_it_is_one_too_many(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="password_file is given too"):
            load(self.write(tmp_path, ", password_file: pin"))

    @pytest.mark.parametrize("name", ["1PIN", "A-B", "''", "7"])
    def test_it_must_be_the_name_of_a_variable(self, name: str) -> None:
        text = ONE.replace('"}', f'", password_env: {name}}}')
        assert "the name of an environment variable" in complaints(text)[0]


class TestPassword:
    def write(self, folder: Path, content: bytes | None) -> Path:
        path = folder / "config.yaml"
        path.write_text(ONE.replace('"}', '", password_file: camper.pin}'))
        if content is not None:
            (folder / "camper.pin").write_bytes(content)
        return path

    @pytest.mark.parametrize("content", [b"123456", b"123456\n", b"123456\r\n"])
    def test_it_is_read_from_a_file_beside_the_configuration(
        self, tmp_path: Path, content: bytes
    ) -> None:
        config = load(self.write(tmp_path, content))

        assert config.batteries[0].password == b"123456"

    def test_it_is_never_shown(self, tmp_path: Path) -> None:
        assert "123456" not in repr(load(self.write(tmp_path, b"123456")))

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "'camper.pin': No such file or directory"),
            (b"12345", "expected 6 bytes, got 5"),
            (b"1234567", "expected 6 bytes, got 7"),
        ],
    )
    def test_a_file_that_cannot_be_one_is_named(
        self, tmp_path: Path, content: bytes | None, complaint: str
    ) -> None:
        with pytest.raises(ConfigError, match=rf"batteries\[0\].password_file: {complaint}"):
            load(self.write(tmp_path, content))

    def test_it_cannot_stand_in_the_configuration(self) -> None:
        assert complaints(ONE.replace('"}', '", password: "123456"}')) == [
            "line 2: batteries[0].password: unknown key, did you mean password_env?"
        ]


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "batteries:\n", "  - name: camper\n", "    address: A4:C1:38:00:00:01\n", "poll:\n",
            "  timeout: 30s\n", "  - ", "  ", "&a ", "*a", "[", "]", "{", "}", ": ", "? ",
            "!!int x", "!!bool x", "!!float x", "!!null x", "!!timestamp x", "<<: ", "0b", "1e400",
            ".nan", "'", "\n", "---\n", "%YAML 9.9\n", "|\n", "\x85", "2022-99-99",
            "0o9", "_", "1_", "=",
        ]
    )
).map("".join)  # fmt: skip


@given(text=st.text() | FRAGMENTS)
@example("!!int 0b")
@example("!!int _")
@example("!!float _")
@example('!!int ""')
@example('"\\U00110000"')
@example('"\\UFFFFFFFF"')
@example("%YAML 1." + "9" * 5000 + "\n--- 1")
@example(":".join(["1"] * 300) + ".5")
@example("batteries:\n  - {? [a] : 1}")
def test_any_text_is_a_configuration_or_a_complaint(text: str) -> None:
    try:
        assert isinstance(parse(text), Config)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - both ways are good
