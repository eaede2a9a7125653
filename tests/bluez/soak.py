"""Thousands of polls with random faults: no leak, consistent counters, no wrong number.

    make soak ARGS="--polls 10000 --seed 1"

The fake bluetoothd and its batteries run in another process: the memory measured is the exporter's.
"""

import argparse
import asyncio
import gc
import logging
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from dbus_fast import BusType, Message
from dbus_fast.aio import MessageBus
from hasty import hurry

from batteries import PROFILE_NAMES, address, answer
from exporter.batteries import build_battery
from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.ble.bleak import BleakTransport
from exporter.ble.routes import Routes
from exporter.config.schema import BatteryConfig, Name, PollConfig, Seconds, normal_address
from exporter.demo.battery import encode_reply
from fake_world import FakeWorld
from world import info

FASTER: Final = 30.0
GROWTH_MB: Final = 3.0
LATENCY_S: Final = 0.025  # until D-Bus reports that a connection was made or ended
STALL_S: Final = 2.0  # a busy machine's, once
FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {}, {}, {}, {},
    {"lose_first": 1}, {"lose_first": 1}, {"lose_first": 2},
    {"silent": True}, {"truncated": True}, {"bad_checksum": True}, {"wrong_register": True},
    {"cut": True}, {"refuses": True}, {"gone": True}, {"held": True},
    {"stray": b""}, {"one_at_a_time": True}, {"notification": 1}, {"notification": 0},
)  # fmt: skip
FAILED: Final = "org.bluez.Error.Failed"
DAEMON_FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {}, {}, {}, {}, {}, {},
    {"connect_errors": [["org.bluez.Error.InProgress", "Operation already in progress"]]},
    {"connect_errors": [[FAILED, "Software caused connection abort"]] * 3},
    {"abort_by_local": 1}, {"expires": True}, {"connect_hangs": True}, {"never_resolved": True},
    {"subscribe_error": [FAILED, "Operation failed"]}, {"write_error": [FAILED, "Not connected"]},
)  # fmt: skip


@dataclass(slots=True)
class Record:
    """The resources of the process, recorded several times during the run."""

    rss_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    names: list[int] = field(default_factory=list)

    async def add(self) -> None:
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: ASYNC230, PTH123
            self.rss_mb.append(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        self.files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        self.tasks.append(len(asyncio.all_tasks()))
        self.names.append(await names_on_the_bus())


async def names_on_the_bus() -> int:
    """Return the number of connections to the bus."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    reply = await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="ListNames",
        )
    )
    bus.disconnect()
    assert reply is not None
    return len(reply.body[0])


class Soak:
    """The pollers, their environment, and the results."""

    def __init__(self, world: FakeWorld, seed: int, tasks: asyncio.TaskGroup) -> None:
        self._world = world
        self._dice = random.Random(seed)  # noqa: S311 - repeatable
        self.record = Record()
        self.outcomes: Counter[str] = Counter()
        self.snapshots: dict[int, Snapshot] = {}
        self.successes: Counter[int] = Counter()  # by battery
        self.problems: list[str] = []
        self._number = 0  # the battery's number that the last poll prepared
        routes = Routes(bluez=lambda adapter: BleakTransport(adapter=adapter), adapters=list)
        poll = PollConfig(
            timeout_s=Seconds(30 / FASTER),
            min_interval_s=Seconds(0),
            max_age_s=Seconds(0),
            backoff_max_s=Seconds(0.001),
        )
        self.pollers: dict[int, Poller] = {}
        for number in range(len(PROFILE_NAMES)):
            config = BatteryConfig(name=Name(f"b{number}"), address=normal_address(address(number)))
            self.pollers[number] = build_battery(config, poll, routes, tasks=tasks).poller

    async def round(self) -> None:
        """Poll every battery once, each with its own random fault."""
        expected = {number: self._prepare(number) for number in self.pollers}
        if self._dice.random() < 0.02:
            self._world.bluetoothd("restart")
        if self._dice.random() < 0.02:
            self._world.adapter("off")
            self._world.adapter("on")
        found = await asyncio.gather(*(one.refresh(timeout_s=60) for one in self.pollers.values()))
        await asyncio.gather(*(one.close() for one in self.pollers.values()))
        for number, snapshot in enumerate(found):
            self.snapshots[number] = snapshot
            if not snapshot.up:
                self.outcomes[str(snapshot.last_error)[:40]] += 1
                if snapshot.reading is not None:
                    self.problems.append(f"b{number}: a reading is shown after a failure")
                continue
            self.outcomes["up"] += 1
            self.successes[number] += 1
            assert snapshot.reading is not None
            assert snapshot.reading.basic is not None
            remaining_ah = snapshot.reading.basic.remaining_ah
            if abs(remaining_ah - expected[number]) > 1e-9:
                self.problems.append(f"b{number}: {remaining_ah} Ah instead of {expected[number]}")

    def _prepare(self, number: int) -> float:
        """Set faults of a battery and of bluetoothd; return the battery's new capacity in Ah."""
        self._number = (self._number + 1) % 0x10000
        payload = bytearray(answer(number, 0x03)[4:-3])
        payload[4:6] = self._number.to_bytes(2, "big")
        frame = encode_reply(0x03, bytes(payload))
        faults = dict(self._dice.choice(FAULTS))
        faults.pop("stray", None)
        self._world.send({"do": "frame", "battery": number, "hex": frame.hex()})
        self._world.send({"do": "faults", "battery": number, "set": faults})
        daemon_faults = self._dice.choice(DAEMON_FAULTS)
        self._world.send({"do": "daemon_faults", "battery": number, "set": daemon_faults})
        return self._number / 100

    def compare_counters(self) -> None:
        """Compare the exporter's counters with those of the batteries."""
        for number, snapshot in self.snapshots.items():
            seen = info(self._world, number)
            counted = sum(snapshot.failures.values())
            # D-Bus reports the start and the end of a connection some milliseconds late.
            difference_s = abs(snapshot.link.held_s - seen["held_s"])
            if difference_s > STALL_S + LATENCY_S * seen["connects"]:
                self.problems.append(f"b{number}: held time differs by {difference_s:.1f} s")
            if seen["connected"] or seen["connects"] != seen["disconnects"]:
                self.problems.append(f"b{number}: a connection is left open")
            if seen["illegal"]:
                self.problems.append(f"b{number}: got the request {seen['illegal'][0]}")
            if snapshot.polls - counted != self.successes[number]:
                self.problems.append(f"b{number}: {snapshot.polls} polls, {counted} failures")

    def check_growth(self) -> None:
        """Compare the resources of the second quarter with those of the last."""
        quarter = max(1, len(self.record.rss_mb) // 4)
        for name in ("files", "tasks", "names"):
            values = getattr(self.record, name)
            if max(values[-quarter:]) > max(values[quarter : 2 * quarter] or values):
                self.problems.append(f"{name} grow: {values}")
        before, after = (
            sum(part) / len(part)
            for part in (self.record.rss_mb[quarter : 2 * quarter], self.record.rss_mb[-quarter:])
        )
        if after - before > GROWTH_MB:
            self.problems.append(f"memory grows: {before:.1f} to {after:.1f} MB")


async def soak(world: FakeWorld, polls: int, seed: int) -> list[str]:
    """Make so many polls, and return the problems found."""
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        one = Soak(world, seed, tasks)
        rounds = -(-polls // len(PROFILE_NAMES))
        for number in range(rounds):
            await one.round()
            if number % max(1, rounds // 24) == 0 or number == rounds - 1:
                await one.record.add()
                done = (number + 1) * len(PROFILE_NAMES)
                print(
                    f"{done:6} polls {time.monotonic() - began_s:6.0f} s  "
                    f"{one.record.rss_mb[-1]:5.1f} MB  {one.record.files[-1]} files  "
                    f"{one.record.tasks[-1]} tasks  {one.record.names[-1]} names on the bus",
                    flush=True,
                )
        one.compare_counters()
        one.check_growth()
    exporter_s = sum(snapshot.link.held_s for snapshot in one.snapshots.values())
    batteries_s = sum(info(world, number)["held_s"] for number in one.snapshots)
    print(f"held: {exporter_s:.1f} s by the exporter, {batteries_s:.1f} s by the batteries")
    for reason, count in one.outcomes.most_common():
        print(f"{count:6}  {reason}")
    return one.problems


def main() -> int:
    """Run the soak test; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable()
    with FakeWorld(FASTER) as world, hurry(FASTER):
        os.environ.update(world.environment())
        problems = asyncio.run(soak(world, options.polls, options.seed))
    for problem in problems[:20]:
        print("WRONG", problem)
    print("ok" if not problems else f"{len(problems)} problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
