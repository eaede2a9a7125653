"""The clock by which readings age: the seam through which tests bring their own."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since some fixed moment; never goes back."""


def boot_s() -> float:
    """Return the seconds since boot, suspended time included.

    asyncio's own clock stops while the machine sleeps: a reading from before a night's sleep
    would be fresh in the morning.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
