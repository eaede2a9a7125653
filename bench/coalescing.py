"""Thousands of scrapes at once, and 64 batteries: polls, seconds until all are served, fairness.

Scrapes use real sockets on loopback, to `bms-exporter demo --replay` with four batteries. The 64
batteries are read by the exporter's own transports over a virtual radio in virtual time. There each
adapter makes one connection at a time, with the battery that it hears first.
"""

import argparse
import asyncio
import logging
import random
import re
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))

import looptime

from exporter.batteries import build_battery
from exporter.battery.poller import Poller
from exporter.battery.snapshot import Snapshot
from exporter.ble.bleak import BleakTransport
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.ble.transport import Backend
from exporter.clock import WallClock
from exporter.config.schema import BatteryConfig, Name, PollConfig, Seconds, normal_address
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import Air, make_air, make_backend
from process import Exporter, demo, running
from table import machine, show
from tests.support import att_server
from tests.support.virtual import battery, now_s

DESCRIPTORS: Final = 20_000  # of the clients
REQUEST: Final = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PATIENCE_S: Final = 600.0
# A JBD module advertises about once a second.
ADVERTISE_S: Final = 1.0
# From the advertisement to the first reply: assumed, in line with the times of `make bench-hold`.
# The adapter makes no other connection in this time.
SET_UP_S: Final = {"direct": 0.1, "bluez": 0.7}
KEPT_S: Final = 2.0  # without CAP_NET_ADMIN the kernel keeps a connection for this long


# Scrapes


@dataclass(slots=True)
class Answers:
    """The responses that clients received."""

    took_s: list[float] = field(default_factory=list)
    readings: Counter[int] = field(default_factory=Counter)  # batteries shown -> answers
    failed: Counter[str] = field(default_factory=Counter)


async def scrape(port: int, answers: Answers) -> None:
    began_s = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        body = await reader.read()
        writer.close()
    except OSError as error:
        answers.failed[type(error).__name__] += 1
        return
    if body.startswith(b"HTTP/1.1 200 "):
        answers.took_s.append(time.monotonic() - began_s)
        answers.readings[body.count(b"\nbms_voltage_volts{")] += 1
    else:
        answers.failed["no answer" if not body else body.split(b"\r\n")[0].decode()] += 1


async def all_at_once(port: int, count: int) -> Answers:
    answers = Answers()
    await asyncio.gather(*(scrape(port, answers) for _ in range(count)))
    return answers


def polls(exporter: Exporter) -> int:
    made = re.findall(r"^bms_polls_total\{.*\} (\S+)$", exporter.text(), re.MULTILINE)
    return sum(int(float(number)) for number in made)


def scrapes(counts: list[int], times: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            runs = [burst(Path(name), count) for _ in range(times)]
            medians = [statistics.median(column) for column in zip(*runs, strict=True)]
            shown = [f"{n:,.0f}" if i in {0, 1} else n for i, n in enumerate(medians)]
            rows.append((f"{count:,}", *shown))
    show(
        f"Scrapes at once, nothing fresh, four batteries; medians of {times}",
        (
            "scrapes",
            "answered with all readings",
            "polls",
            "first answer, s",
            "last answer, s",
            "the same of fresh readings, s",
            "processor time a scrape, ms",
            "memory at most, MiB",
            "KiB a waiting scrape",
            "memory 10 s later, MiB",
        ),
        rows,
    )


def burst(folder: Path, count: int) -> tuple[float, ...]:
    """Scrape a new exporter `count` times at once, and again while its readings are fresh."""
    with running(demo(folder, 4)) as exporter:
        before_kb, before_s = exporter.status("VmRSS"), exporter.cpu_s()
        first = asyncio.run(all_at_once(exporter.port, count))
        used_s, most_kb = exporter.cpu_s() - before_s, exporter.status("VmHWM")
        again = asyncio.run(all_at_once(exporter.port, count))
        for one in (first, again):
            if one.failed:
                print(f"{count} scrapes: failed: {dict(one.failed)}", flush=True)
        made = polls(exporter)
        time.sleep(10.0)
        return (
            first.readings[4],
            made,
            min(first.took_s),
            max(first.took_s),
            max(again.took_s),
            1000 * used_s / count,
            most_kb / 1024,
            (most_kb - before_kb) / count,
            exporter.status("VmRSS") / 1024,
        )


# Batteries


@dataclass(slots=True)
class Controller:
    """An adapter that receives advertisements and connects to one battery at a time."""

    set_up_s: float
    luck: random.Random
    busy: bool = False
    connected: int = 0
    most_connected: int = 0

    async def reach(self, advertises: Callable[[], bool]) -> None:
        """Return when the battery is connected: when it advertises while the adapter is free."""
        await asyncio.sleep(self.luck.uniform(0.0, ADVERTISE_S))
        while self.busy or not advertises():  # noqa: ASYNC110 - it advertises at its own intervals
            # With a random delay of up to 10 ms each time, as the Bluetooth specification says.
            await asyncio.sleep(ADVERTISE_S + self.luck.uniform(0.0, 0.01))
        self.busy = True
        try:
            await asyncio.sleep(self.set_up_s)
        finally:
            self.busy = False


def fleet(count: int) -> list[str]:
    return [f"A4:C1:38:00:{number >> 8:02X}:{number & 0xFF:02X}" for number in range(count)]


def strengths(addresses: list[str], adapters: list[str], same: str | None) -> dict[str, list[int]]:
    """Return the RSSI of each battery at each adapter; adapter `same` receives all of them best."""
    luck = random.Random(12200)  # noqa: S311 - the same every time
    return {
        adapter: [luck.randint(-90, -50) + (60 if adapter == same else 0) for _ in addresses]
        for adapter in adapters
    }


def in_range(addresses: list[str], rssi_dbm: list[int]) -> list[VirtualBattery]:
    return [
        battery(address, rssi_dbm=min(-20, dbm), faults=Faults(lose_first=1))
        for address, dbm in zip(addresses, rssi_dbm, strict=True)
    ]


class ShuffledBatteries(dict[str, VirtualBattery]):
    """Batteries that advertise in another order every time."""

    luck = random.Random(2)  # noqa: S311

    def items(self) -> Any:
        pairs = list(super().items())
        self.luck.shuffle(pairs)
        return pairs


def bluez(addresses: list[str], rssi_dbm: dict[str, list[int]]) -> Routes:
    """Return routes through bluetoothd, without CAP_NET_ADMIN."""
    connected: dict[str, Any] = {}  # a battery has one connection, whichever adapter made it
    airs: dict[str | None, Air] = {}
    backends: dict[str | None, Backend] = {}
    for name, strong in rssi_dbm.items():
        airs[name] = make_air(in_range(addresses, strong), connect_s=0.0, disconnect_s=KEPT_S)
        airs[name].batteries = ShuffledBatteries(airs[name].batteries)
        airs[name].connected = connected
        backend = make_backend(airs[name])
        controller = Controller(SET_UP_S["bluez"], random.Random(1))  # noqa: S311
        assert backend.client is not None
        backends[name] = Backend(client=queued(backend.client, controller), scanner=backend.scanner)
    first = next(iter(airs))

    def make_bluez(adapter: str | None) -> BleakTransport:
        return BleakTransport(adapter=adapter, backend=backends[adapter or first], clock=now_s)

    return Routes(bluez=make_bluez, adapters=lambda: list(rssi_dbm))


def queued(client: Any, controller: Controller) -> Any:
    class Queued(client):  # type: ignore[misc]
        async def connect(self, pair: bool, **kwargs: Any) -> None:
            async with asyncio.timeout(kwargs.get("timeout", self._timeout)):
                await controller.reach(lambda: self.address not in self._air.connected)
            await super().connect(pair, **kwargs)

    return Queued


def direct(addresses: list[str], rssi_dbm: dict[str, list[int]], kept_s: float) -> Routes:
    """Return routes over the kernel's sockets; the kernel keeps a connection for `kept_s`."""
    adapters = [Adapter(n, f"00:1B:DC:0F:AA:{n:02X}", up=True) for n in range(len(rssi_dbm))]
    controllers = {
        one.address: Controller(SET_UP_S["direct"], random.Random(1))  # noqa: S311
        for one in adapters
    }
    air = att_server.Air({one.address: one for one in in_range(addresses, [-60] * len(addresses))})
    free_at_s: dict[str, float] = {}
    servers: dict[str, att_server.AttServer] = {}

    def connected_on(address: str) -> int | None:
        server = servers.get(address)
        if server is None:
            return None
        if server.sock.fileno() >= 0:
            free_at_s[address] = now_s() + kept_s
            return 0
        return 0 if now_s() < free_at_s.get(address, 0.0) else None

    async def open_channel(address: str, kind: int, adapter: str) -> socket.socket:
        if kind != air.address_type:
            await asyncio.Event().wait()
        await controllers[adapter].reach(lambda: connected_on(address) is None)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - its interface
        servers[address] = att_server.AttServer(battery=air.batteries[address], sock=theirs)
        servers[address].start()
        return ours

    kernels = {
        one.name: Kernel(
            open_channel=open_channel,
            adapters=lambda: adapters,
            connected_on=connected_on,
        )
        for one in adapters
    }
    backends = {
        name: Backend(scanner=make_backend(make_air(in_range(addresses, strong))).scanner)
        for name, strong in rssi_dbm.items()
    }

    def make_bluez(adapter: str | None) -> BleakTransport:
        return BleakTransport(adapter=adapter, backend=backends[adapter or "hci0"], clock=now_s)

    def make_direct(adapter: str | None) -> DirectTransport:
        return DirectTransport(
            adapter=adapter,
            kernel=kernels[adapter or "hci0"],
            clock=now_s,
        )

    return Routes(bluez=make_bluez, direct=make_direct, adapters=lambda: list(rssi_dbm))


@dataclass(slots=True, kw_only=True)
class Case:
    """A configuration of link, adapters and time-outs for reading many batteries."""

    link: str
    adapters: int
    batteries: int = 64
    loudest: bool = False  # the first adapter hears every battery best
    timeout_s: float = 30.0  # poll.timeout
    interval_s: float = 60.0
    scrape_timeout_s: float = 15.0
    rounds: int = 6

    def routes(self, addresses: list[str]) -> Routes:
        names = [f"hci{n}" for n in range(self.adapters)]
        rssi_dbm = strengths(addresses, names, "hci0" if self.loudest else None)
        if self.link == "bluez":
            return bluez(addresses, rssi_dbm)
        return direct(addresses, rssi_dbm, 0.0 if "ADMIN" in self.link else KEPT_S)


@dataclass(slots=True)
class Result:
    """The results of one case."""

    all_s: float = 0.0  # until every battery has been read
    half_s: float = 0.0  # until half of them have been read
    slowest_to_median: float = 0.0
    shown: dict[str, int] = field(default_factory=dict)  # of the rounds, by battery
    read: dict[str, int] = field(default_factory=dict)
    polls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    cpu_ms: float = 0.0  # a reading


async def play(case: Case) -> Result:
    addresses = fleet(case.batteries)
    result = Result()
    async with asyncio.TaskGroup() as tasks:
        # Without time limits. The first round learns which adapter is best for each battery.
        pollers = make_pollers(case, addresses, tasks, timeout_s=PATIENCE_S)
        await served(pollers)
        await asyncio.sleep(30.0)
        began_cpu_s = time.process_time()
        took_s = sorted(await served(pollers))
        result.cpu_ms = 1000 * (time.process_time() - began_cpu_s) / case.batteries
        result.all_s, result.half_s = took_s[-1], statistics.median(took_s)
        result.slowest_to_median = result.all_s / result.half_s
    async with asyncio.TaskGroup() as tasks:
        # As Prometheus scrapes.
        pollers = make_pollers(case, addresses, tasks, timeout_s=case.timeout_s)
        result.shown = dict.fromkeys(addresses, 0)
        for _ in range(case.rounds):
            began_s = now_s()
            for snapshot in await scraped(pollers, case.scrape_timeout_s - 0.5):
                result.shown[snapshot.address] += snapshot.reading is not None
            await asyncio.sleep(began_s + case.interval_s - now_s())
        for snapshot in await scraped(pollers, 0.0):
            failed = sum(snapshot.failures.values())
            result.read[snapshot.address] = snapshot.polls - failed
            result.polls += snapshot.polls
            result.failures.update({str(reason): n for reason, n in snapshot.failures.items()})
        await asyncio.sleep(PATIENCE_S)
    return result


def make_pollers(
    case: Case, addresses: list[str], tasks: asyncio.TaskGroup, *, timeout_s: float
) -> list[Poller]:
    routes = case.routes(addresses)
    poll = PollConfig(timeout_s=Seconds(timeout_s))
    return [
        build_battery(
            BatteryConfig(name=Name(address), address=normal_address(address)),
            poll,
            routes,
            tasks=tasks,
            wall=WallClock(now_s),
        ).poller
        for address in addresses
    ]


async def served(pollers: list[Poller]) -> list[float]:
    """Return the seconds after which each battery was read, or nan if it was not."""
    began_s = now_s()

    async def one(poller: Poller) -> float:
        snapshot = await poller.refresh(timeout_s=PATIENCE_S)
        return now_s() - began_s if snapshot.up else float("nan")

    return await asyncio.gather(*map(one, pollers))


async def scraped(pollers: list[Poller], timeout_s: float) -> list[Snapshot]:
    return await asyncio.gather(*(one.refresh(timeout_s=timeout_s) for one in pollers))


def in_virtual_time(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(work())


def cases() -> list[Case]:
    quick, slow = "direct, CAP_NET_ADMIN", "bluez"
    return [
        *(Case(link=quick, adapters=n) for n in (1, 2, 4)),
        Case(link=quick, adapters=4, loudest=True),
        Case(link="direct", adapters=1),
        *(Case(link=slow, adapters=n) for n in (1, 2, 4)),
        Case(link=slow, adapters=4, loudest=True),
        *(Case(link=slow, adapters=n, timeout_s=120.0) for n in (1, 2)),
    ]


def batteries() -> None:
    rows = []
    for case in cases():
        result = in_virtual_time(lambda case=case: play(case))  # type: ignore[misc]
        shown, read = sorted(result.shown.values()), sorted(result.read.values())
        rows.append(
            (
                case.link,
                f"{case.adapters}{', one hears all best' if case.loudest else ''}",
                f"{case.timeout_s:.0f} s",
                result.half_s,
                result.all_s,
                result.slowest_to_median,
                f"{shown[0]}, {statistics.median(shown):g} of {case.rounds}",
                f"{read[0]}, {statistics.median(read):g}, {read[-1]}",
                result.polls,
                ", ".join(f"{n} {reason}" for reason, n in result.failures.items()) or "none",
                result.cpu_ms,
            )
        )
        print(rows[-1], file=sys.stderr, flush=True)  # it takes a while
    show(
        "64 batteries: patient readings (every poll may take 10 minutes), then six scrapes a "
        "minute apart with a time-out of 15 s",
        (
            "link",
            "adapters",
            "poll.timeout",
            "patient: half are read after, s",
            "all, s",
            "slowest to median",
            "scrapes that show a battery: worst, median",
            "readings of a battery: worst, median, best",
            "polls",
            "failed",
            "processor time a reading, ms",
        ),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scrapes", type=int, nargs="*", default=[1, 100, 1000, 10_000])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", choices=("scrapes", "batteries"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(machine("bleak", "tornado", "prometheus-client", "looptime"))
    if options.only != "batteries":
        scrapes(options.scrapes, options.times)
    if options.only != "scrapes":
        batteries()


if __name__ == "__main__":
    main()
