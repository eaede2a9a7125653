"""An exporter of some batteries in a simulated environment, with the checks of the scenarios."""

import re
import time
from pathlib import Path

import pytest

from batteries import address
from world import Exporter, Samples, World, info, value, wait_disconnected

BACKOFF_S = 5.0  # poll.backoff_max of these exporters
RECORDED_AH = 203.54
REMAINING = "bms_remaining_capacity_amperehours"


class Camper:
    """An exporter of some batteries, with checks that hold in every scenario."""

    def __init__(
        self, world: World, link: str, folder: Path, batteries: int = 1, poll_timeout_s: int = 25
    ) -> None:
        self.world = world
        self.link = link
        self._folder = folder
        self._batteries = batteries
        self._poll_timeout_s = poll_timeout_s
        self.exporter = self.start()

    def start(self) -> Exporter:
        poll = f"timeout: {self._poll_timeout_s}s, backoff_max: {BACKOFF_S:g}s"
        lines = [
            f"link: {self.link}",
            f"poll: {{{poll}, min_interval: 0, max_age: 0}}",
            "batteries:",
            *(f"  - {{name: b{n}, address: '{address(n)}'}}" for n in range(self._batteries)),
        ]
        return Exporter(self.world, "\n".join(lines) + "\n", self._folder)

    def scrape(self) -> Samples:
        """Return the samples; check that each battery shows its own number or none."""
        samples = self.exporter.scrape()
        for number in range(self._batteries):
            shown = value(samples, REMAINING, f"b{number}")
            if value(samples, "bms_up", f"b{number}"):
                assert shown == pytest.approx(RECORDED_AH - number), f"b{number} shows {shown} Ah"
            else:
                assert shown is None, f"b{number} shows {shown} Ah"
        return samples

    def check_reads(self, battery: int = 0) -> Samples:
        """Scrape; check that a battery is read and then disconnected."""
        samples = self.scrape()
        assert value(samples, "bms_up", f"b{battery}") == 1, self.exporter.log()
        wait_disconnected(self.world, battery, timeout_s=10.0)
        return samples

    def check_fails(self, *reasons: str) -> float:
        """Scrape; check that battery 0 fails for one of these reasons; return the seconds taken."""
        began_s = time.monotonic()
        samples = self.scrape()
        took_s = time.monotonic() - began_s
        assert value(samples, "bms_up", "b0") == 0, self.exporter.log()
        assert failures(samples), samples
        assert set(failures(samples)) <= set(reasons), self.exporter.log()
        return took_s

    def check_recovers(self, battery: int = 0) -> Samples:
        """Check that a battery is read again after at most one back-off."""
        name = f"b{battery}"
        up = value(self.scrape(), "bms_up", name)  # may be the result of an earlier poll
        end_s = time.monotonic() + BACKOFF_S * self.world.patience
        while up != 1:
            assert time.monotonic() < end_s, self.exporter.log()
            time.sleep(0.5)
            up = value(self.scrape(), "bms_up", name)
        samples = self.check_reads(battery)
        assert info(self.world, battery)["illegal"] == []
        return samples

    def check_logged(self, words: str) -> None:
        """Check that the log names the fault in at most two lines, without a traceback."""
        end_s = time.monotonic() + 5.0 * self.world.patience
        failed: list[str] = []
        while not re.search(words, "\n".join(failed)):  # a thread writes the log
            warnings = self.exporter.warnings()
            assert time.monotonic() < end_s, warnings
            failed = [line for line in warnings if "poll failed" in line]
            time.sleep(0.05)
        assert len(failed) <= 2, warnings  # a second line only if the reason changed
        assert "Traceback" not in self.exporter.log()


def failures(samples: Samples, battery: str = "b0") -> dict[str, float]:
    """Return the failed polls by reason."""
    return {
        dict(labels)["reason"]: count
        for (name, labels), count in samples.items()
        if name == "bms_poll_failures_total" and ("battery", battery) in labels and count
    }
