"""The configuration, and the batteries to examine."""

from pathlib import Path

import pytest

from exporter.config.loader import parse
from exporter.doctor.adapters import AdapterFacts
from exporter.doctor.check import State
from exporter.doctor.configuration import (
    Configured,
    check_configuration,
    choose_batteries,
    read_configuration,
)
from exporter.errors import ConfigError
from tests.support.virtual import ADDRESS

SECOND = "A4:C1:38:00:00:02"
TWO = Configured(
    config=parse(
        f"batteries:\n  - {{name: camper, address: '{ADDRESS}', adapter: hci1}}\n"
        f"  - {{name: trailer, address: '{SECOND}'}}\n"
    )
)
HCI0 = AdapterFacts(index=0, address="00:1B:DC:0F:AA:01", is_up=True)
HCI1 = AdapterFacts(index=1, address="00:1B:DC:0F:AA:02", is_up=True)


def test_missing_file_is_a_note(tmp_path: Path) -> None:
    configured = read_configuration(tmp_path / "config.yaml")

    assert check_configuration(configured, []).state is State.NOTE
    assert choose_batteries(configured, []) == []


def test_invalid_file_fails_with_its_first_mistake(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("batteries:\n  - name: camper\nspeed: 1\n")

    check = check_configuration(read_configuration(path), [])

    assert check.state is State.FAIL
    assert check.text.startswith(f"{path}:2: batteries[0].address: missing: add a line like ")
    assert check.text.endswith(", and 1 more")
    assert "--config.check" in (check.advice or "")
    assert str(tmp_path) not in str(check.facts)


def test_valid_file_is_well() -> None:
    check = check_configuration(TWO, [HCI0, HCI1])

    assert check.state is State.OK
    assert check.text == "valid; batteries: 2; link: auto"


def test_adapter_that_is_not_there_fails() -> None:
    check = check_configuration(TWO, [HCI0])

    assert check.state is State.FAIL
    assert check.text == "adapter hci1 is not there"


def test_adapters_are_not_compared_where_none_is_known() -> None:
    assert check_configuration(TWO, []).state is State.OK


def test_backwards_address_gets_a_warning() -> None:
    config = parse("batteries: [{name: camper, address: 'B3:FC:EC:38:C1:A4'}]\n")

    check = check_configuration(Configured(config=config), [])

    assert check.state is State.WARN
    assert check.facts["backwards"] == ["camper"]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ([], ["camper", "trailer"]),
        (["trailer"], ["trailer"]),
        ([SECOND.lower()], ["trailer"]),
        (["A4:C1:38:00:00:09", "camper"], ["A4:C1:38:00:00:09", "camper"]),
    ],
)
def test_batteries_are_chosen_by_name_or_address(wanted: list[str], names: list[str]) -> None:
    assert [battery.name for battery in choose_batteries(TWO, wanted)] == names


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no battery 'boat': configured: camper, trailer; give"):
        choose_batteries(TWO, ["boat"])


@pytest.mark.parametrize("configured", [TWO, Configured(is_missing=True)])
def test_mistyped_address_is_refused_as_an_address(configured: Configured) -> None:
    with pytest.raises(ConfigError, match=r"doctor: expected a Bluetooth address like .*:00:ZZ'"):
        choose_batteries(configured, ["A4:C1:38:00:00:ZZ"])


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        (Configured(is_missing=True), "no battery 'boat': there is no configuration file; give"),
        (Configured(problems=["config.yaml:1: speed: unknown key"]), "config.yaml:1: speed"),
    ],
)
def test_unknown_name_is_refused_with_what_is_wrong_with_the_file(
    configured: Configured, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_batteries(configured, ["boat"])
