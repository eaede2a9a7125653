"""Simulates a battery in a camper: sun, fridge, coffee machine, cold nights."""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Final

from exporter.demo.battery import UNKNOWN_REGISTER, encode_reply
from exporter.protocol import jbd
from exporter.protocol.frame import Command
from exporter.protocol.registers import Register
from exporter.reading import Protection

HOUR_S: Final = 3600.0
DAY_H: Final = 24.0
START_H: Final = 8.0
STEP_S: Final = 30.0  # short enough for a coffee machine of four minutes
MAX_STEPS: Final = 2880  # of one request, a day; a longer time is simulated in coarser steps
SUNRISE_H: Final = 7.0
SUNSET_H: Final = 20.0
COLDEST_H: Final = 5.0
FRIDGE_PERIOD_S: Final = 1800
FRIDGE_ON_S: Final = 600
COFFEE_S: Final = (7 * 3600 + 36 * 60, 14 * 3600 + 12 * 60)  # after midnight
COFFEE_DURATION_S: Final = 240
COFFEE_A: Final = 92.0

# Open-circuit voltage of a LiFePO4 cell by state of charge: the flat curve of the chemistry.
OPEN_CIRCUIT_V: Final = (
    (0.00, 2.80),
    (0.05, 3.10),
    (0.10, 3.20),
    (0.20, 3.25),
    (0.40, 3.29),
    (0.70, 3.32),
    (0.90, 3.34),
    (0.98, 3.38),
    (1.00, 3.46),
)
CELL_OHM: Final = 0.0004
BALANCE_ABOVE_V: Final = 3.40
CELL_OFFSETS_V: Final = (0.0, 0.004, -0.003, 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A battery, with its loads, sun and climate."""

    nominal_ah: float
    start_ah: float
    solar_peak_a: float
    base_a: float
    fridge_a: float  # ten minutes in every half hour
    coffee: bool
    mean_c: float
    swing_c: float  # half the difference between noon and night
    hardware: str
    manufactured: tuple[int, int, int]
    cycles: int
    full_ah: float | None = None  # the learned capacity, in the trailing block of newer firmware


class Day:
    """One simulated battery, whose time advances at each request."""

    def __init__(
        self,
        scenario: Scenario,
        now_s: Callable[[], float],
        *,
        speed: float = 1.0,
        start_h: float = START_H,
        max_steps: int = MAX_STEPS,
    ) -> None:
        """Start at `start_h` o'clock; `speed` is the simulated seconds per second of `now_s`."""
        self._scenario = scenario
        self._now_s = now_s
        self._speed = speed
        self._begin_s = now_s()
        self._start_h = start_h
        self._max_steps = max_steps
        self._simulated_s = 0.0
        self._remaining_ah = scenario.start_ah
        # What has flown since the start, to check what the exporter counts:
        self.charged_ah = self.discharged_ah = 0.0
        self.charged_wh = self.discharged_wh = 0.0

    def answer(self, register: int) -> bytes:
        """Return the reply frame of one register."""
        self._advance()
        payloads: dict[int, Callable[[], bytes]] = {
            Command.BASIC_INFO: self._basic,
            Command.CELL_VOLTAGES: self._cells,
            Command.HARDWARE: self._scenario.hardware.encode,
            Command.EVENT_COUNTERS: self._event_counters,
        }
        if register not in payloads:
            return encode_reply(register, status=UNKNOWN_REGISTER)
        return encode_reply(register, payloads[register]())

    def _advance(self) -> None:
        target_s = (self._now_s() - self._begin_s) * self._speed
        step_s = max(STEP_S, (target_s - self._simulated_s) / self._max_steps)
        while self._simulated_s + step_s <= target_s:
            step_ah = self._current_a() * step_s / HOUR_S
            self._count(step_ah, step_ah * sum(self._cell_volts()))
            self._remaining_ah += step_ah
            self._remaining_ah = min(max(self._remaining_ah, 0.0), self._scenario.nominal_ah)
            self._simulated_s += step_s

    def _count(self, step_ah: float, step_wh: float) -> None:
        self.charged_ah += max(step_ah, 0.0)
        self.discharged_ah += max(-step_ah, 0.0)
        self.charged_wh += max(step_wh, 0.0)
        self.discharged_wh += max(-step_wh, 0.0)

    def _hour(self) -> float:
        return self._second() / HOUR_S

    def _second(self) -> float:
        """Return the seconds after midnight; whole ones, so that no load lasts a step too long."""
        return (self._start_h * HOUR_S + self._simulated_s) % (DAY_H * HOUR_S)

    def _temperature_c(self) -> float:
        return self._scenario.mean_c - self._scenario.swing_c * cos(
            2 * pi * (self._hour() - COLDEST_H) / DAY_H
        )

    def _too_cold_to_charge(self) -> bool:
        return self._temperature_c() < 0

    def _empty(self) -> bool:
        return self._remaining_ah <= 0

    def _current_a(self) -> float:
        second, scenario = self._second(), self._scenario
        daylight = (second / HOUR_S - SUNRISE_H) / (SUNSET_H - SUNRISE_H)
        solar_a = scenario.solar_peak_a * sin(pi * daylight) if 0 < daylight < 1 else 0.0
        load_a = scenario.base_a + (
            scenario.fridge_a if second % FRIDGE_PERIOD_S < FRIDGE_ON_S else 0.0
        )
        if scenario.coffee and any(0 <= second - at < COFFEE_DURATION_S for at in COFFEE_S):
            load_a += COFFEE_A
        net_a = solar_a - load_a
        if net_a > 0 and (self._too_cold_to_charge() or self._remaining_ah >= scenario.nominal_ah):
            return 0.0
        return 0.0 if net_a < 0 and self._empty() else net_a

    def _cell_volts(self) -> list[float]:
        ratio = self._remaining_ah / self._scenario.nominal_ah
        upper = next(i for i, (at, _) in enumerate(OPEN_CIRCUIT_V) if ratio <= at or at == 1.0)
        (low, low_v), (high, high_v) = OPEN_CIRCUIT_V[max(upper - 1, 0)], OPEN_CIRCUIT_V[upper]
        part = (ratio - low) / (high - low) if high > low else 1.0
        cell_v = low_v + (high_v - low_v) * part + self._current_a() * CELL_OHM
        return [cell_v + offset for offset in CELL_OFFSETS_V]

    def _basic(self) -> bytes:
        scenario = self._scenario
        cells_v = self._cell_volts()
        charging = self._current_a() > 0
        balancing = sum(
            1 << i for i, cell_v in enumerate(cells_v) if charging and cell_v > BALANCE_ABOVE_V
        )
        cold, empty = self._too_cold_to_charge(), self._empty()
        active = {Protection.CHARGE_UNDERTEMPERATURE: cold, Protection.CELL_UNDERVOLTAGE: empty}
        protections = sum(on << jbd.PROTECTION_BITS.index(one) for one, on in active.items())
        mosfets = (not cold) << jbd.CHARGE_FET_BIT | (not empty) << jbd.DISCHARGE_FET_BIT
        year, month, day = scenario.manufactured
        temperature_c = self._temperature_c()
        return _encode(
            (jbd.VOLTAGE, sum(cells_v)),
            (jbd.CURRENT, self._current_a()),
            (jbd.REMAINING, self._remaining_ah),
            (jbd.NOMINAL, scenario.nominal_ah),
            (jbd.CYCLES, scenario.cycles),
            (jbd.MANUFACTURED, year - 2000 << 9 | month << 5 | day),
            (jbd.BALANCE_1_16, balancing),
            (jbd.BALANCE_17_32, 0),
            (jbd.PROTECTIONS, protections),
            (jbd.SOFTWARE, 0x83),
            (jbd.RSOC, self._remaining_ah / scenario.nominal_ah),
            (jbd.STATUS, mosfets),
            (jbd.CELL_COUNT, len(cells_v)),
            (jbd.NTC_COUNT, 2),
            (jbd.NTC, temperature_c),
            (jbd.NTC, temperature_c + 0.4),
            *self._trailing_block(),
        )

    def _trailing_block(self) -> list[tuple[Register, float]]:
        if self._scenario.full_ah is None:
            return []
        return [
            (jbd.HUMIDITY, 0),
            (jbd.ALARM, 0),
            (jbd.FULL, self._scenario.full_ah),
            (jbd.REMAINING_AGAIN, self._remaining_ah),
            (jbd.BALANCE_CURRENT, 0),
        ]

    def _cells(self) -> bytes:
        return _encode(*((jbd.CELL_VOLTAGE, cell_v) for cell_v in self._cell_volts()))

    def _event_counters(self) -> bytes:
        events = {Protection.CHARGE_UNDERTEMPERATURE: 3, Protection.CELL_OVERVOLTAGE: 1}
        words = [events.get(protection, 0) for protection in jbd.EVENT_COUNTER_BITS] + [1]
        return _encode(*((jbd.EVENT_COUNT, word) for word in words))


def _encode(*fields: tuple[Register, float]) -> bytes:
    """Return the bytes of numbers: the inverse of `Register.read`."""
    raw = [(one, round(value * one.divisor) - one.offset) for one, value in fields]
    return b"".join(number.to_bytes(one.size, "big", signed=one.signed) for one, number in raw)
