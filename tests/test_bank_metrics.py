"""The metrics of banks, as numbers and as text."""

import subprocess
from dataclasses import replace

from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from exporter.bank_metrics import BankCollector
from exporter.battery.snapshot import Snapshot
from exporter.config.schema import BankConfig, Name, Wiring
from exporter.protocol.jbd import decode_basic
from exporter.reading import Reading
from tests.support.recorded import MOBILEKTRO
from tests.support.registry import make_registry

BANK = BankConfig(
    name=Name("both"), batteries=(Name("left"), Name("right")), wiring=Wiring.PARALLEL
)
BASIC = replace(
    decode_basic(MOBILEKTRO[4:-3]),
    remaining_ah=50.0,
    nominal_ah=100.0,
    rsoc_ratio=0.5,
    voltage_v=13.0,
    current_a=-4.0,
)
LEFT = Snapshot(battery="left", address="A4:C1:38:00:00:01", reading=Reading(basic=BASIC))
RIGHT = replace(LEFT, battery="right", reading=Reading(basic=replace(BASIC, current_a=-3.0)))


def exposed(*snapshots: Snapshot, banks: tuple[BankConfig, ...] = (BANK,)) -> CollectorRegistry:
    return make_registry(BankCollector(banks, snapshots))


def values(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.name.removeprefix("bms_bank_"): sample.value
        for family in registry.collect()
        for sample in family.samples
        if set(sample.labels) == {"bank"}
    }


def test_bank_has_totals_while_all_batteries_have_readings() -> None:
    assert values(exposed(LEFT, RIGHT)) == {
        "remaining_capacity_amperehours": 100.0,
        "nominal_capacity_amperehours": 200.0,
        "state_of_charge_ratio": 0.5,
        "voltage_volts": 13.0,
        "current_amperes": -7.0,
        "state_of_charge_difference_ratio": 0.0,
        "current_difference_amperes": 1.0,
        "batteries": 2.0,
        "batteries_read": 2.0,
    }


def test_full_capacity_of_a_bank_exists_if_a_bms_has_learned_one() -> None:
    learned = replace(LEFT, reading=Reading(basic=replace(BASIC, full_ah=80.0)))

    assert values(exposed(learned, RIGHT))["full_capacity_amperehours"] == 180.0


def test_bank_with_a_stale_battery_has_only_its_numbers_of_batteries() -> None:
    assert values(exposed(LEFT, replace(RIGHT, reading=None))) == {
        "batteries": 2.0,
        "batteries_read": 1.0,
    }


def test_batteries_and_wiring_are_shown_for_joins_also_without_readings() -> None:
    registry = exposed()

    for battery in ("left", "right"):
        labels = {"bank": "both", "battery": battery}
        assert registry.get_sample_value("bms_bank_member", labels) == 1
    labels = {"bank": "both", "wiring": "parallel"}
    assert registry.get_sample_value("bms_bank_info", labels) == 1


def test_exporter_without_banks_has_no_metrics_of_banks() -> None:
    assert not list(exposed(LEFT, RIGHT, banks=()).collect())


def test_promtool_accepts_the_metrics_of_banks(promtool: str) -> None:
    text = generate_latest(exposed(LEFT, RIGHT))

    result = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
