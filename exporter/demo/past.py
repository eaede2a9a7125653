"""Simulates the hours before the demo was started, so that its curves are full at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from exporter.battery.history import HOURS, SPACING_S, Sample
from exporter.battery.poller import Poller
from exporter.clock import boot_s
from exporter.demo.day import DAY_H, START_H, STEP_S, Day, Scenario
from exporter.protocol import jbd
from exporter.protocol.explain import parse_frame
from exporter.protocol.frame import Command
from exporter.reading import BasicInfo

PAST_S: Final = HOURS * 3600.0
STEPS: Final = 40  # between two samples: the demo starts within a second at every speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What one battery did in the hours before the start, the oldest sample first."""

    samples: tuple[Sample, ...]  # `at_s` counts from the start: it is negative
    remaining_ah: float  # at the start


def simulate_past(scenario: Scenario, *, speed: float = 1.0) -> Past:
    """Return the past that ends with the scenario's charge; at a high speed it steps to it.

    Weeks of it fill a battery, whatever it began with. The demo shows the scenario all the same.
    """
    middle_ah = scenario.nominal_ah / 2
    rehearsal = _simulate(scenario, middle_ah, speed, STEPS * STEP_S / speed)
    flowed_ah = rehearsal.remaining_ah - middle_ah
    begin_ah = scenario.start_ah - flowed_ah
    is_possible = 0 <= begin_ah <= scenario.nominal_ah
    past = _simulate(scenario, begin_ah if is_possible else scenario.start_ah, speed)
    return replace(past, remaining_ah=scenario.start_ah)


def simulate_pasts(scenarios: Mapping[str, Scenario], *, speed: float = 1.0) -> dict[str, Past]:
    """Return the past of each battery by name."""
    return {name: simulate_past(one, speed=speed) for name, one in scenarios.items()}


def fill_curves(pasts: Mapping[str, Past], batteries: Mapping[str, Poller]) -> None:
    """Put each past into the history, still empty, of the battery of that name."""
    now_s = boot_s()
    for name, past in pasts.items():
        for sample in past.samples:
            batteries[name].history.add(sample._replace(at_s=now_s + sample.at_s))


def _simulate(
    scenario: Scenario, begin_ah: float, speed: float, every_s: float = SPACING_S
) -> Past:
    now_s = -PAST_S
    day = Day(
        replace(scenario, start_ah=begin_ah),
        lambda: now_s,
        speed=speed,
        start_h=(START_H - HOURS * speed) % DAY_H,
        max_steps=STEPS,
    )
    samples = []
    while now_s < 0:
        basic = _read(day)
        samples.append(Sample(now_s, basic.remaining_ah, basic.current_a))
        now_s += max(every_s, SPACING_S)
    now_s = 0.0
    return Past(samples=tuple(samples), remaining_ah=_read(day).remaining_ah)


def _read(day: Day) -> BasicInfo:
    return jbd.decode_basic(parse_frame(day.answer(Command.BASIC_INFO)).payload)
