"""The batteries that `bms-exporter demo` serves."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from random import Random
from typing import Final

from exporter.battery.settings_reader import SettingsReader
from exporter.config.schema import BankConfig, Name, Wiring
from exporter.demo.battery import Answers, Faults, VirtualBattery
from exporter.demo.day import Day, Scenario
from exporter.demo.settings import make_settings
from exporter.protocol.profiles import PROFILES

HEALTHY: Final = Scenario(
    nominal_ah=200.0,
    start_ah=131.0,
    solar_peak_a=11.0,
    base_a=0.6,
    fridge_a=4.8,
    coffee=True,
    mean_c=17.0,
    swing_c=6.0,
    hardware="JBD-SP04S034-L4S-200A-B-U",
    manufactured=(2022, 8, 12),
    cycles=19,
)
SECOND: Final = replace(HEALTHY, start_ah=127.5, manufactured=(2022, 8, 15), cycles=18)
FLAKY: Final = Scenario(
    nominal_ah=100.0,
    start_ah=58.0,
    solar_peak_a=4.5,
    base_a=0.4,
    fridge_a=3.0,
    coffee=False,
    mean_c=15.0,
    swing_c=5.0,
    hardware="JBD-DP04S007L4S100A",
    manufactured=(2024, 9, 12),
    cycles=27,
    full_ah=103.2,
)
# Too cold to charge until the late morning, nearly empty until then, charged in the afternoon.
COLD: Final = Scenario(
    nominal_ah=100.0,
    start_ah=6.5,
    solar_peak_a=9.0,
    base_a=0.9,
    fridge_a=2.4,
    coffee=False,
    mean_c=0.5,
    swing_c=8.0,
    hardware="JBD-DH04SC02",
    manufactured=(2021, 5, 7),
    cycles=412,
)

# At the first poll: real ones would wait until the cold battery is well, in the afternoon. The
# flaky one takes up to 0.3 s for each register.
make_settings_reader: Final = partial(SettingsReader, is_on_demand=True, read_s=15.0)
SCENARIOS: Final = {"camper": HEALTHY, "camper2": SECOND, "flaky": FLAKY, "cold": COLD}
BANK: Final = BankConfig(
    name=Name("living area"),
    batteries=(Name("camper"), Name("camper2")),
    wiring=Wiring.PARALLEL,
)
FROST_C: Final = (0.0, 0.0)  # Day charges at 0 degrees and above


def build_camper(now_s: Callable[[], float], *, speed: float = 1.0) -> dict[str, VirtualBattery]:
    """Return two in parallel, a flaky, and a cold and nearly empty battery, by name."""

    def answers(name: str) -> Answers:
        return Day(SCENARIOS[name], now_s, speed=speed).answer

    nus, ff00, fff0 = (PROFILES[name] for name in ("nus", "ff00", "fff0"))
    return {
        "camper": VirtualBattery(
            address="A4:C1:38:00:00:01",
            name="MLB-12200-NT",
            answers=answers("camper"),
            settings=_settings(HEALTHY, charge_from_c=FROST_C),
            gatt=(nus,),
            speaks=nus,
            faults=Faults(lose_first=1),
        ),
        "camper2": VirtualBattery(
            address="A4:C1:38:00:00:04",
            name="MLB-12200-NT",
            answers=answers("camper2"),
            settings=_settings(SECOND, charge_from_c=FROST_C),
            gatt=(nus,),
            speaks=nus,
            rssi_dbm=-70,
            faults=Faults(lose_first=1),
        ),
        "flaky": VirtualBattery(
            address="A4:C1:38:00:00:02",
            name="DP04S007L4S100A",
            answers=answers("flaky"),
            settings=_settings(FLAKY),
            gatt=(ff00,),
            speaks=ff00,
            rssi_dbm=-91,
            choose_faults=_make_choice(Random(12200)),  # noqa: S311 - a demo that is the same every time
        ),
        "cold": VirtualBattery(
            address="A4:C1:38:00:00:03",
            name="WTaHdB0042",
            answers=answers("cold"),
            settings=_settings(COLD, charge_from_c=FROST_C),
            advertises=(fff0.service,),
            gatt=(fff0,),
            speaks=fff0,
            rssi_dbm=-74,
            faults=Faults(lose_first=1, notification=0),
        ),
    }


def build_replayed(recordings: Mapping[str, Answers]) -> dict[str, VirtualBattery]:
    """Return batteries that answer with recorded frames, by name."""
    return {
        name: VirtualBattery(
            address=f"A4:C1:38:00:{number >> 8:02X}:{number & 0xFF:02X}", answers=answers
        )
        for number, (name, answers) in enumerate(recordings.items(), start=1)
    }


def _settings(
    scenario: Scenario, *, charge_from_c: tuple[float, float] | None = None
) -> dict[int, bytes]:
    return make_settings(
        scenario.nominal_ah,
        scenario.hardware,
        date(*scenario.manufactured),
        charge_from_c=charge_from_c,
    )


def _make_choice(random: Random) -> Callable[[], Faults]:
    """Return a function that chooses faults at the edge of range; half of them let a poll pass."""
    choices = (
        Faults(lose_first=1),
        Faults(lose_first=3, reply_s=0.3),
        Faults(lose_first=1, notification=7, gap_s=0.02),
        Faults(refuses=True),
        Faults(lose_first=1, stray=b"\x00"),
        Faults(bad_checksum=True),
        Faults(cut=True),
    )
    return lambda: random.choice(choices)
