"""The boot clock, by which readings age, and its conversion to unix time; tests fake both."""

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], float]
"""Seconds since some fixed time; never goes back."""

STEP_S: Final = 1.0  # less is drift: following it would change a timestamp at every scrape


def boot_s() -> float:
    """Return the seconds since boot, suspended time included.

    asyncio's clock stops while the machine is suspended: by it, yesterday's reading could be fresh.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class WallClock:
    """Converts times of the boot clock to unix time when they are shown.

    The wall clock of a machine without an RTC jumps by days when it is set. The boot clock never
    jumps, so all times are right as soon as the wall clock is.
    """

    def __init__(self, clock: Clock = boot_s, unix_clock: Clock = time.time) -> None:
        """Measure the difference of both clocks."""
        self.now_s = clock
        self._unix_clock = unix_clock
        self._difference_s = unix_clock() - clock()

    def difference_s(self) -> float:
        """Return the seconds to add to a time of the boot clock to get unix time."""
        difference_s = self._unix_clock() - self.now_s()
        if abs(difference_s - self._difference_s) > STEP_S:
            self._difference_s = difference_s
        return self._difference_s

    def now_unix_s(self) -> float:
        """Return the current unix time, converted like all other times."""
        return self.now_s() + self.difference_s()
