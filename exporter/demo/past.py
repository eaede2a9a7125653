"""Simulates the hours before the demo was started, so that its curves are full at once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from exporter.battery.history import HOURS, SPACING_S, Sample
from exporter.battery.poller import Poller
from exporter.clock import boot_s
from exporter.demo.day import DAY_H, START_H, STEP_S, Day, Scenario
from exporter.protocol import jbd
from exporter.protocol.frame import Command, FrameAssembler
from exporter.reading import BasicInfo

PAST_S: Final = HOURS * 3600.0
STEPS: Final = 40  # between two samples: the demo starts within a second at every speed


Past = tuple[Sample, ...]
"""What one battery did before the start, the oldest sample first; `at_s` counts from the start."""


def simulate_past(scenario: Scenario, *, speed: float = 1.0) -> Past:
    """Return a past that ends with the scenario's charge.

    At a high speed it ends with another one: weeks fill a battery, whatever it began with.
    """
    middle_ah = scenario.nominal_ah / 2
    _, end_ah = _simulate(scenario, middle_ah, speed, STEPS * STEP_S / speed)
    begin_ah = scenario.start_ah - (end_ah - middle_ah)
    samples, _ = _simulate(scenario, min(max(begin_ah, 0.0), scenario.nominal_ah), speed)
    return samples


def simulate_pasts(scenarios: Mapping[str, Scenario], *, speed: float = 1.0) -> dict[str, Past]:
    """Return the past of each battery by name."""
    return {name: simulate_past(one, speed=speed) for name, one in scenarios.items()}


def fill_curves(pasts: Mapping[str, Past], batteries: Mapping[str, Poller]) -> None:
    """Put each past into the history, still empty, of the battery of that name."""
    now_s = boot_s()
    for name, past in pasts.items():
        for sample in past:
            batteries[name].history.add(sample._replace(at_s=now_s + sample.at_s))


def _simulate(
    scenario: Scenario, begin_ah: float, speed: float, every_s: float = SPACING_S
) -> tuple[Past, float]:
    """Return what happens from this charge on, and the charge in Ah at the start."""
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
    return tuple(samples), _read(day).remaining_ah


def _read(day: Day) -> BasicInfo:
    (frame,) = FrameAssembler().feed(day.answer(Command.BASIC_INFO))
    return jbd.decode_basic(frame.payload)
