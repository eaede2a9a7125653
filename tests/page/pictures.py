"""Draw pictures of the page with the demo's batteries: pictures.py FOLDER [LOCALE]."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

from playwright.sync_api import sync_playwright

from exporter.battery.forecast import make_morning, night_current_a
from exporter.config.presentation import CRITICAL, LOW
from exporter.demo.day import Day, Scenario
from exporter.demo.fleet import BANK, SCENARIOS
from exporter.protocol import jbd
from exporter.protocol.explain import parse_frame
from exporter.protocol.frame import Command
from tests.support import fake_exporter as fake

HOUR_S: Final = 3600
STEP_S: Final = 120
BEGIN_H: Final = 8  # of the demo's first day
SHOWN_H: Final = 24 + 9.5  # the morning after
NIGHT_H: Final = 20.0, 6.0
MORNING_H: Final = 7.0
# File, view, width, height, colours.
PICTURES: Final[list[tuple[str, str, int, int, Literal["dark", "light"]]]] = [
    ("page-tablet-light", "", 1280, 800, "light"),
    ("page-phone-dark", "", 390, 844, "dark"),
    ("page-battery-dark", "camper", 1280, 800, "dark"),
]


def simulate(name: str, scenario: Scenario) -> tuple[fake.Json, list[list[float]]]:
    """Return a battery and its samples of the last 12 hours."""
    now_s = 0.0
    day = Day(scenario, lambda: now_s)
    end_s = (SHOWN_H - BEGIN_H) * HOUR_S
    offset_s = time.time() - end_s
    samples = []
    for step in range(int(end_s / STEP_S) + 1):
        now_s = step * float(STEP_S)
        basic = jbd.decode_basic(parse_frame(day.answer(Command.BASIC_INFO)).payload)
        samples.append([offset_s + now_s, basic.remaining_ah, basic.current_a])
    cells = jbd.decode_cells(parse_frame(day.answer(Command.CELL_VOLTAGES)).payload)
    fitted = [each for each in cells if each is not None]
    empty_s = basic.remaining_ah / -basic.current_a * HOUR_S if basic.current_a < 0 else None
    left_ah = basic.nominal_ah - basic.remaining_ah
    full_s = left_ah / basic.current_a * HOUR_S if basic.current_a > 0 else None
    reading: dict[str, Any] = {
        "remaining_ah": basic.remaining_ah,
        "nominal_ah": basic.nominal_ah,
        "rsoc_ratio": basic.rsoc_ratio,
        "voltage_v": basic.voltage_v,
        "current_a": basic.current_a,
        "power_w": basic.voltage_v * basic.current_a,
        "time_to_empty_s": empty_s,
        "time_to_full_s": full_s,
        "cells": [
            {"number": number, "voltage_v": volts, "balancing": number in basic.balancing_cells}
            for number, volts in enumerate(cells, start=1)
        ],
        "cell_spread_v": max(fitted) - min(fitted),
        "temperatures_c": basic.temperatures_c,
        "charge_fet_on": basic.charge_fet_on,
        "discharge_fet_on": basic.discharge_fet_on,
        "protections": sorted(basic.protections),
    }
    battery = fake.battery(
        name,
        reading=fake.reading(**reading),
        settings=fake.settings(),
        thresholds=fake.thresholds(
            *(
                {"remaining_ah": basic.nominal_ah * ratio, "rsoc_ratio": ratio}
                for ratio in (0.2, 0.1)
            )
        ),
    )
    drawn_a = night_current_a(
        [(BEGIN_H * HOUR_S + at_s - offset_s, a) for at_s, _, a in samples], is_night
    )
    battery["morning"] = until_morning(basic.remaining_ah, drawn_a, basic.nominal_ah)
    return battery, [each for each in samples if each[0] > time.time() - 43200]


def is_night(unix_s: float) -> bool:
    """Return whether it is night; the first day begins at 0."""
    hour = unix_s / HOUR_S % 24
    return hour >= NIGHT_H[0] or hour < NIGHT_H[1]


def until_morning(remaining_ah: float, drawn_a: float | None, nominal_ah: float) -> fake.Json:
    """Return `morning` of the API for a whole night."""
    night_s = (24 + MORNING_H - NIGHT_H[0]) * HOUR_S
    low_ah, critical_ah = (nominal_ah * one.amount for one in (LOW, CRITICAL))
    return asdict(
        make_morning(remaining_ah, drawn_a or 0.0, night_s, low_ah=low_ah, critical_ah=critical_ah)
    )


def main(folder: Path, locale: str = "en-GB") -> None:
    """Write every picture."""
    lives = {name: simulate(name, scenario) for name, scenario in SCENARIOS.items()}
    members = [lives[name][0] for name in BANK.batteries]
    left_ah = sum(each["morning"]["left_ah"] for each in members)
    nominal_ah = sum(each["reading"]["nominal_ah"] for each in members)
    bank = fake.bank(BANK.name, members, morning=until_morning(left_ah, None, nominal_ah))
    exporter = fake.FakeExporter([battery for battery, _ in lives.values()], banks=[bank])
    exporter.history = {name: samples for name, (_, samples) in lives.items()}
    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        for name, view, width, height, scheme in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale
            )
            page.goto(f"{exporter.url}#/{view}" if view else exporter.url)
            page.wait_for_selector(".line[d^=M]", state="attached")
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()
    exporter.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
