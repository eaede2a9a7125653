"""A configuration file is valid, or every mistake in it is reported."""

import base64
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config import Config, load
from exporter.config.loader import parse
from exporter.config.presentation import CRITICAL, LOW
from exporter.config.schema import (
    ESPHOME_PORT,
    BatteryConfig,
    Host,
    ManagementConfig,
    PollConfig,
    Port,
    ProxyConfig,
    ProxyName,
    SettingsChoice,
    TransportChoice,
    normal_address,
)
from exporter.errors import ConfigError
from tests.support.paths import PROJECT

EXAMPLE = PROJECT / "config.example.yaml"
WRONG = sorted((Path(__file__).parent / "invalid").glob("*.yaml"))
DASH = "each with a dash before its name"
NOT_SET = "this environment variable is not set: set it before the start"
OWN_FILE = "write it into a file of its own, and the name of that file"
KEY = base64.b64encode(bytes(range(32))).decode()
ONE = 'batteries:\n  - {name: camper, address: "A4:C1:38:00:00:01"}\n'


def complaints(text: str) -> list[str]:
    """Return "LINE: text" for each complaint."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "mine.yaml")
    return [problem.removeprefix("mine.yaml:") for problem in caught.value.problems]


def battery(extra: str) -> BatteryConfig:
    (one,) = parse(f"batteries:\n  - name: camper\n    {extra}\n").batteries
    return one


class TestInvalidFiles:
    @pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
    def test_invalid_file_gets_every_complaint_at_once(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        expected = [
            line.removeprefix("# expect: ")
            for line in text.splitlines()
            if line.startswith("# expect: ")
        ]

        assert sorted(complaints(text)) == sorted(expected)

    @pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
    def test_complaints_are_in_the_order_of_the_lines(self, path: Path) -> None:
        found = complaints(path.read_text(encoding="utf-8"))
        lines = [int(complaint.partition(":")[0]) for complaint in found]

        assert lines == sorted(lines)

    def test_each_complaint_names_file_and_line(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("batteries: 5\nspeed: 1\n")

        with pytest.raises(ConfigError) as caught:
            load(path)

        assert caught.value.problems == (
            f"{path}:1: batteries: expected a list of batteries, {DASH}, got 5",
            f"{path}:2: speed: unknown key: bms-exporter --config.example prints every key",
        )

    def test_missing_file_is_reported_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such file: bms-exporter scan prints one"):
            load(tmp_path / "config.yaml")

    def test_mapping_as_a_key_is_an_unknown_key(self) -> None:
        found = complaints("{[a]: 1}")

        assert "1: ?: unknown key: bms-exporter --config.example prints every key" in found

    @pytest.mark.parametrize("number", ["0x" + "f" * 5000, "1" * 5000, "1" + ":1" * 5000])
    def test_number_that_python_cannot_print_is_reported_as_text(self, number: str) -> None:
        text = ONE.replace("name: camper", f"name: {number}")

        (complaint,) = complaints(text)
        expected = "2: batteries[0].name: expected a name of at most 64 characters, got "
        assert complaint == f"{expected}{len(number)}"


class TestDefaults:
    def test_battery_needs_only_name_and_address(self) -> None:
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

    def test_every_option_of_the_configuration_is_read(self) -> None:
        config = parse(
            'batteries:\n  - {name: camper, address: "A4:C1:38:00:00:01", adapter: hci1, '
            "profile: nus, cells: false, hardware: false, counters: false, settings: daily}\n"
            "poll: {timeout: 45s, min_interval: 0s, max_age: 5m, backoff_max: 1h}\n"
        )

        (one,) = config.batteries
        assert config.link is TransportChoice.AUTO
        assert config.management == ManagementConfig()
        assert (one.adapter, one.profile) == ("hci1", "nus")
        assert (one.cells, one.hardware, one.counters) == (False, False, False)
        assert one.settings is SettingsChoice.DAILY
        poll = config.poll
        assert (poll.timeout_s, poll.min_interval_s) == (45.0, 0.0)
        assert (poll.max_age_s, poll.backoff_max_s) == (300.0, 3600.0)

    @pytest.mark.parametrize(
        "poll", ["timeout: 1s", "timeout: 600s", "min_interval: 1h, max_age: 24h", "max_age: 0"]
    )
    def test_duration_at_the_end_of_its_range_is_allowed(self, poll: str) -> None:
        parse(f"{ONE}poll: {{{poll}}}\n")

    def test_max_age_may_equal_min_interval(self) -> None:
        assert parse(f"{ONE}poll: {{max_age: 10s}}\n").poll.max_age_s == 10.0

    def test_example_configuration_shows_the_defaults(self) -> None:
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
        assert shown["batteries"][0]["gentle"] is False
        assert shown["batteries"][0]["settings"] is False  # off, in YAML
        assert set(shown["batteries"][0]) == {
            "name", "address", "adapter", "link", "gentle", "profile", "cells", "hardware",
            "counters", "settings", "temperatures", "low", "critical", "password_file",
            "password_env",
        }  # fmt: skip
        assert (plain.low, plain.critical) == (LOW, CRITICAL)
        assert shown["link"] == Config(batteries=()).link
        (proxy,) = shown["proxies"]
        assert set(proxy) == {"name", "host", "port", "key_file", "key_env"}
        assert proxy["port"] == ESPHOME_PORT
        assert shown["management"] == asdict(ManagementConfig())

    def test_example_configuration_with_every_line_uncommented_is_valid(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "config.yaml"
        lines = _uncommented(EXAMPLE.read_text(encoding="utf-8")).splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "only one of both" not in line))
        (tmp_path / "camper.pin").write_text("123456\n")
        (tmp_path / "garage.key").write_text(f"{KEY}\n")

        config = load(path)

        assert config.batteries[0].password == b"123456"
        assert config.proxies[0].key == KEY

    def test_example_configuration_is_valid(self) -> None:
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
    def test_address_may_be_written_in_several_ways(self, written: str, address: str) -> None:
        assert battery(f"address: {written}").address == address


class TestSections:
    @pytest.mark.parametrize("link", list(TransportChoice))
    def test_link_is_set_for_all_batteries_or_for_one(self, link: TransportChoice) -> None:
        config = parse(ONE.replace('"}', f'", link: {link}}}') + f"link: {link}\n")

        assert (config.link, config.batteries[0].link) == (link, link)

    @pytest.mark.parametrize("off", ["off", "Off", "false", '"off"'])
    def test_settings_can_be_switched_off_in_words_of_yaml(self, off: str) -> None:
        (one,) = parse(ONE.replace('"}', f'", settings: {off}}}')).batteries

        assert one.settings is SettingsChoice.OFF

    @pytest.mark.parametrize(
        ("value", "got"), [("on", "true"), ("weekly", "'weekly'"), ("1", "1"), ("[]", "a list")]
    )
    def test_other_choice_of_settings_is_refused(self, value: str, got: str) -> None:
        assert complaints(ONE.replace('"}', f'", settings: {value}}}')) == [
            f"2: batteries[0].settings: expected one of off, daily, got {got}"
        ]

    def test_unknown_link_is_refused(self) -> None:
        assert complaints(f"{ONE}link: usb\n") == [
            "3: link: expected one of auto, direct, bluez, got 'usb'"
        ]

    @pytest.mark.parametrize("name", ["release", "parameters", "power", "rssi"])
    def test_each_use_of_the_management_socket_can_be_turned_off(self, name: str) -> None:
        config = parse(f"{ONE}management: {{{name}: false}}\n")

        assert getattr(config.management, name) is False

    def test_unknown_use_of_the_management_socket_is_refused(self) -> None:
        assert complaints(f"{ONE}management: {{rsi: true}}\n") == [
            "3: management.rsi: unknown key, did you mean rssi?"
        ]

    def test_section_may_be_commented_out_completely(self) -> None:
        assert parse(f"{ONE}management:\n").management == ManagementConfig()


class TestProxies:
    PROXY = "proxies: [{name: garage, host: 192.168.1.40%s}]\n"

    def test_battery_may_be_linked_to_a_proxy(self) -> None:
        config = parse(ONE.replace('"}', '", link: garage}') + self.PROXY % ", port: 6054")

        assert config.proxies == (
            ProxyConfig(name=ProxyName("garage"), host=Host("192.168.1.40"), port=Port(6054)),
        )
        assert (config.batteries[0].link, config.batteries[0].transport) == ("garage", None)

    def test_link_may_be_left_empty(self) -> None:
        assert parse(ONE.replace('"}', '", link: }')).batteries[0].link is None

    @pytest.mark.parametrize("host", ["garage", "garage-2.local", "192.168.1.40", "fd00::40"])
    def test_host_is_an_address_or_a_name(self, host: str) -> None:
        assert parse(f'{ONE}proxies: [{{name: a, host: "{host}"}}]\n').proxies[0].host == host

    @pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f" {KEY} \r\n"])
    def test_key_is_read_from_a_file_beside_the_configuration(
        self, content: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(ONE + self.PROXY % ", key_file: garage.key")
        (tmp_path / "garage.key").write_text(content)

        config = load(path)

        assert config.proxies[0].key == KEY
        assert KEY not in repr(config)

    def test_proxy_without_encryption_has_no_key(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(ONE + self.PROXY % "")

        assert load(path).proxies[0].key is None

    def test_key_is_read_from_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(ONE + self.PROXY % ", key_env: GARAGE_KEY")
        monkeypatch.setenv("GARAGE_KEY", KEY)

        assert load(path).proxies[0].key == KEY

    @pytest.mark.parametrize("content", ["", "hunter2", KEY[:-4], f"{KEY[:-2]}!="])
    def test_key_that_esphome_does_not_make_is_refused_and_not_shown(
        self, content: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(ONE + self.PROXY % ", key_file: garage.key")
        (tmp_path / "garage.key").write_text(content)

        with pytest.raises(ConfigError) as caught:
            load(path)

        (problem,) = caught.value.problems
        assert problem == (
            f"{path}:3: proxies[0].key_file: expected the 44 characters that ESPHome has under "
            "api: encryption: key:"
        )

    def test_missing_key_is_named_with_file_and_line(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(ONE + self.PROXY % ", key_env: GARAGE_KEY")

        with pytest.raises(ConfigError) as caught:
            load(path)

        assert caught.value.problems == (f"{path}:3: proxies[0].key_env: {NOT_SET}",)


class TestPasswordEnv:
    def write(self, folder: Path, more: str = "") -> Path:
        path = folder / "config.yaml"
        path.write_text(ONE.replace('"}', f'", password_env: CAMPER_PIN{more}}}'))
        return path

    def test_password_is_read_from_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CAMPER_PIN", "123456")

        config = load(self.write(tmp_path))

        assert config.batteries[0].password == b"123456"
        assert "123456" not in repr(config)

    def test_missing_environment_variable_is_named_with_file_and_line(self, tmp_path: Path) -> None:
        path = self.write(tmp_path)

        with pytest.raises(ConfigError) as caught:
            load(path)

        assert caught.value.problems == (f"{path}:2: batteries[0].password_env: {NOT_SET}",)

    def test_password_of_another_length_is_refused_and_not_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CAMPER_PIN", "1234567")

        with pytest.raises(ConfigError, match="6 characters of the app password, got 7") as caught:
            load(self.write(tmp_path))

        assert "1234567" not in str(caught.value)

    def test_password_file_and_password_env_exclude_each_other(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="password_file is given too"):
            load(self.write(tmp_path, ", password_file: pin"))


class TestPasswordFile:
    def write(self, folder: Path, content: bytes | None) -> Path:
        path = folder / "config.yaml"
        path.write_text(ONE.replace('"}', '", password_file: camper.pin}'))
        if content is not None:
            (folder / "camper.pin").write_bytes(content)
        return path

    @pytest.mark.parametrize("content", [b"123456", b"123456\n", b"123456\r\n"])
    def test_password_is_read_from_a_file_beside_the_configuration(
        self, tmp_path: Path, content: bytes
    ) -> None:
        config = load(self.write(tmp_path, content))

        assert config.batteries[0].password == b"123456"

    def test_password_is_not_part_of_the_repr(self, tmp_path: Path) -> None:
        assert "123456" not in repr(load(self.write(tmp_path, b"123456")))

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, ".*/camper.pin: there is no such file: write the secret into a file"),
            (b"12345", "expected the 6 characters of the app password, got 5"),
            (b"1234567", "expected the 6 characters of the app password, got 7"),
            ("12345ä".encode(), "expected .* password, got some that are not ASCII"),
        ],
    )
    def test_password_file_without_a_password_is_reported(
        self, tmp_path: Path, content: bytes | None, complaint: str
    ) -> None:
        with pytest.raises(ConfigError, match=rf"batteries\[0\].password_file: {complaint}"):
            load(self.write(tmp_path, content))

    def test_password_in_the_configuration_is_refused(self) -> None:
        assert complaints(ONE.replace('"}', '", password: "123456"}')) == [
            f"2: batteries[0].password: unknown key: {OWN_FILE} as password_file"
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
