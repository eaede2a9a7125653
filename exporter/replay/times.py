"""When things happen in a replay: as recorded, or faster or slower by a factor."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporter.replay.script import Delivery

APART_S = 1e-5  # so that the loop keeps the order


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one replay."""

    factor: float = 1.0

    @property
    def differ(self) -> bool:
        """Whether they are not those of the recording."""
        return self.factor != 1.0

    def scaled(self, seconds: float) -> float:
        """Return how long something takes in the replay."""
        return max(0.0, seconds * self.factor)

    async def sleep(self, seconds: float) -> None:
        """Wait for a time of the recording."""
        await asyncio.sleep(self.scaled(seconds))

    def queue(self, deliver: Callable[[Delivery], None]) -> "Queue":
        """Return a queue that delivers in order."""
        return Queue(self, deliver)


class Queue:
    """Deliveries of one connection: each at its time, and none before an earlier one."""

    def __init__(self, times: Times, deliver: Callable[[Delivery], None]) -> None:
        self._times = times
        self._deliver = deliver
        self._last_s = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Deliver these, which follow a request that came now."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for delivery in deliveries:
            due_s = now_s + self._times.scaled(delivery.after_s)
            self._last_s = max(due_s, self._last_s + APART_S)
            self._timers.append(loop.call_at(self._last_s, self._deliver, delivery))

    def clear(self) -> None:
        """Deliver nothing more."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
