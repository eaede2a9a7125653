"""What a reading (registers 03 and 04) costs its battery, compared with other programs.

`make bench-hold` runs this in the virtual machine of tests/bluez. Every contender reads battery 1
several times, and the virtual radio counts packets and seconds. Between two readings bluetoothd
forgets the battery, as it does by itself 30 s after a connection.
"""

import argparse
import asyncio
import math
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "bluez")]

from batteries import address
from batteries import battery as virtual_battery
from exporter.ble.direct.intervals import KINDS
from exporter.ble.direct.management import LOAD_CONNECTION_PARAMETERS, SUCCESS, command
from exporter.ble.direct.sockets import adapters, packed
from exporter.demo.battery import Faults
from exporter.protocol.frame import Command, encode_request
from vm_world import VmWorld
from world import Exporter, info, set_faults, wait_disconnected

BATTERY: Final = 1  # advertises ff00 and has this profile, as all programs expect
PAUSE_S: Final = 1.0
UNPRIVILEGED: Final = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
# The kernel's default parameters: 30 to 50 ms, latency 0, supervision timeout 420 ms.
USUAL: Final = struct.pack("<HHHH", 24, 40, 0, 42)
WANTED: Final = (Command.BASIC_INFO, Command.CELL_VOLTAGES)
# ATT PDUs, Bluetooth Core, Vol 3, Part F: opcode and handle before a value; a subscription's is 2.
HEAD_BYTES: Final = 3
SUBSCRIPTION_BYTES: Final = HEAD_BYTES + 2 + 1  # and the opcode of the answer
SUBSCRIPTION_PDUS: Final = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one reading, or the lowest possible cost."""

    held_s: float
    answered_s: float  # from the connection to the last notification
    response_s: float  # from the request (a scrape or a call) to its response
    pdus: float
    bytes: float
    requests: float
    interval_s: float = 0.0
    stays: bool = False  # still connected after the pause


Read = Callable[[int], list[Cost | None]]
"""Reads so many times; returns the cost of each reading, None if it failed."""


def ours(world: VmWorld, link: str, through: Sequence[str] = ()) -> Read:
    """Read as Prometheus does: one scrape, one reading."""

    def read(times: int) -> list[Cost | None]:
        config = (
            f"link: {link}\npoll: {{timeout: 25s, min_interval: 0, max_age: 0, backoff_max: 1s}}\n"
            f"batteries: [{{name: b, address: '{address(BATTERY)}'}}]\n"
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            Exporter(world, config, Path(folder), through=through) as it,
        ):
            return [
                cost(world, lambda: 'bms_up{battery="b"} 1.0' in it.get("/metrics"))
                for _ in range(times)
            ]

    return read


def peer(world: VmWorld, name: str) -> Read:
    """Read with another program, in one process for all readings."""

    def read(times: int) -> list[Cost | None]:
        with subprocess.Popen(
            [sys.executable, __file__, "--peer", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin
            assert process.stdout

            def once() -> bool:
                assert process.stdin
                assert process.stdout
                process.stdin.write("read\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if line != "ok\n":
                    print(f"{name}: {line}", end="", file=sys.stderr)
                return line == "ok\n"

            assert process.stdout.readline() == "ready\n"
            costs = [cost(world, once, stays=name == "kept") for _ in range(times)]
            process.stdin.close()
        forget(world)
        return costs

    return read


def cost(world: VmWorld, act: Callable[[], bool], *, stays: bool = False) -> Cost | None:
    """Return the cost of one reading, or None if it failed."""
    before, air_before = info(world, BATTERY), traffic(world)
    sent_s = time.monotonic()
    succeeded = act()
    response_s = time.monotonic() - sent_s
    if not stays:
        wait_disconnected(world, BATTERY, timeout_s=30.0)
    air = traffic(world)
    time.sleep(PAUSE_S)
    after = info(world, BATTERY)
    if not stays:
        forget(world)
    if not succeeded:
        return None
    return Cost(
        held_s=after["held_s"] - before["held_s"],
        answered_s=air["answered_s"],
        response_s=response_s,
        pdus=sum(air["pdus"].values()) - sum(air_before["pdus"].values()),
        bytes=air["bytes"] - air_before["bytes"],
        requests=len(after["requests"]) - len(before["requests"]),
        interval_s=air["interval_s"],
        stays=after["connected"],
    )


def traffic(world: VmWorld) -> Any:
    return world.send({"do": "traffic", "battery": BATTERY})


def forget(world: VmWorld) -> None:
    """Remove the battery from bluetoothd."""
    subprocess.run(
        ["bluetoothctl", "remove", address(BATTERY)], check=False, stdout=subprocess.DEVNULL
    )
    wait_disconnected(world, BATTERY, timeout_s=30.0)


def reset_parameters() -> None:
    """Restore the kernel's connection parameters after those of an earlier contender."""
    entries = [packed(address(BATTERY)) + bytes([kind]) + USUAL for kind in KINDS]
    payload = struct.pack("<H", len(entries)) + b"".join(entries)
    status, _ = asyncio.run(command(LOAD_CONNECTION_PARAMETERS, adapters()[0].index, payload))
    if status != SUCCESS:
        raise RuntimeError(f"connection parameters not loaded: status {status:#04x}")


async def run_peer(name: str) -> None:
    """Read once for each line of standard input; print ok as soon as the values are known."""
    from bleak import BleakScanner  # noqa: PLC0415 - the exporter's own needs none

    reader: Any = None
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        reported = False

        def report() -> None:
            nonlocal reported
            reported = True
            print("ok", flush=True)

        try:
            if reader is None or name != "kept":
                device = await BleakScanner.find_device_by_address(address(BATTERY), timeout=20.0)
                reader = PEERS[name](device)
            await reader(report)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            line = f"{type(error).__name__}: {error}"
            print(line, file=sys.stderr if reported else sys.stdout, flush=True)


def aiobmsble(device: Any, *, keep_alive: bool) -> Callable[[Callable[[], None]], Awaitable[None]]:
    """Return a reader with aiobmsble, which reports after its disconnect, if it disconnects."""
    from aiobmsble import BMSConfig  # noqa: PLC0415
    from aiobmsble.bms.jbd_bms import BMS  # noqa: PLC0415

    bms = BMS(device, BMSConfig(keep_alive=keep_alive))

    async def read(report: Callable[[], None]) -> None:
        await bms.async_update()
        report()

    return read


def plain(device: Any) -> Callable[[Callable[[], None]], Awaitable[None]]:
    """Return a reader as in simple scripts: connect, subscribe, request, wait, disconnect."""
    from bleak import BleakClient  # noqa: PLC0415

    async def read(report: Callable[[], None]) -> None:
        async with BleakClient(device) as client:
            arrived: asyncio.Queue[bytes] = asyncio.Queue()
            await client.start_notify("ff01", lambda _, data: arrived.put_nowait(bytes(data)))
            for request in (encode_request(register) for register in WANTED):
                frame = b""
                await client.write_gatt_char("ff02", request, response=False)
                for _ in range(3):  # such scripts repeat the request, some after a second
                    try:
                        while len(frame) < 4 or len(frame) < frame[3] + 7:
                            frame += await asyncio.wait_for(arrived.get(), 1.0)
                        break
                    except TimeoutError:
                        await client.write_gatt_char("ff02", request, response=False)
            report()

    return read


PEERS: Final[dict[str, Callable[[Any], Callable[[Callable[[], None]], Awaitable[None]]]]] = {
    "let-go": lambda device: aiobmsble(device, keep_alive=False),
    "kept": lambda device: aiobmsble(device, keep_alive=True),
    "plain": plain,
}


def least(interval_s: float, lost: int, *, together: bool) -> Cost:
    """Return the lowest possible cost of a reading at this connection interval.

    Assumes that the battery advertises at once, that computing takes no time, and that the handles
    are known. The first connection event is half an interval away on average and carries the
    subscription and the first request. The last notification ends the connection. Requests are sent
    one at a time, or all together. A lost request is repeated one event later.
    """

    def event(at_s: float) -> float:  # the first one at or after this
        return math.ceil(at_s / interval_s - 1e-9) * interval_s if interval_s else at_s

    battery = virtual_battery(BATTERY)
    battery.faults = Faults(lose_first=lost)
    battery.connected()
    sent_s = done_s = 0.0
    notifications = []
    for request in [encode_request(WANTED[0])] * lost + [encode_request(one) for one in WANTED]:
        answer = battery.request(request, sent_s)
        notifications += answer
        if not answer:
            sent_s += interval_s
            continue
        done_s = event(sent_s + answer[-1].after_s)
        if not together:
            sent_s = done_s + interval_s
    sent = [encode_request(WANTED[0])] * (lost + len(WANTED))
    received = [one.data for one in notifications if one.data]
    return Cost(
        held_s=interval_s / 2 + done_s,
        answered_s=interval_s / 2 + done_s,
        response_s=interval_s / 2 + done_s,
        pdus=SUBSCRIPTION_PDUS + len(sent) + len(received),
        bytes=SUBSCRIPTION_BYTES + sum(HEAD_BYTES + len(pdu) for pdu in [*sent, *received]),
        requests=len(sent),
        interval_s=interval_s,
    )


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure."""
    values = [
        statistics.median(getattr(one, name) for one in costs)
        for name in (
            "held_s",
            "answered_s",
            "response_s",
            "pdus",
            "bytes",
            "requests",
            "interval_s",
        )
    ]
    return replace(Cost(*values), stays=all(one.stays for one in costs))


@contextmanager
def conditions(world: VmWorld, *, interval_true: bool, lost: int) -> Iterator[None]:
    world.send({"do": "radio", "battery": BATTERY, "interval_true": interval_true})
    set_faults(world, BATTERY, lose_first=lost)
    yield
    set_faults(world, BATTERY)


HEADING: Final = (
    "| | interval | held | of it until answered | scrape to response | ATT PDUs | bytes | commands | "
    "least held | held / least |\n|---|" + "---:|" * 9
)


def row(name: str, cost: Cost, lost: int) -> str:
    """Return the table row of one contender."""
    bound = least(cost.interval_s, lost, together=True)
    held = "stays" if cost.stays else f"{cost.held_s:.2f} s"
    ratio = "" if cost.stays else f"{cost.held_s / bound.held_s:.1f}"
    interval = f"{cost.interval_s * 1000:g} ms"
    answered = "" if cost.stays else f"{cost.answered_s:.2f} s"
    return (
        f"| {name} | {interval} | {held} | {answered} | {cost.response_s:.2f} s | {cost.pdus:g} | "
        f"{cost.bytes:g} | {cost.requests:g} | {bound.held_s:.2f} s | {ratio} |"
    )


def table(contenders: dict[str, Read], lost: int, times: int) -> None:
    """Measure all contenders; print a table of first and further readings."""
    firsts, rows = [], []
    intervals: dict[float, None] = {}
    for name, read in contenders.items():
        reset_parameters()
        first, *others = read(times + 1)
        succeeded = [one for one in others if one is not None]
        failed = (
            f" ({len(others) - len(succeeded)} of {times} failed)" if len(succeeded) < times else ""
        )
        if first is not None:
            firsts.append(row(f"{name}, first", first, lost))
        if succeeded:
            middle = median(succeeded)
            intervals[middle.interval_s] = None
            rows.append(row(f"{name}{failed}", middle, lost))
            seconds = sorted(one.held_s for one in succeeded)
            print(f"{name}: held {seconds[0]:.3f} to {seconds[-1]:.3f} s", file=sys.stderr)
    for interval_s in sorted(intervals):
        rows += [
            row(f"the least, {how}", least(interval_s, lost, together=together), lost)
            for how, together in (("one request at a time", False), ("requests together", True))
        ]
    print("\n".join([HEADING, *rows, *firsts]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=8, help="readings after the first one")
    parser.add_argument("--radio", choices=("interval-true", "0ms"), help="only this one")
    parser.add_argument("--lost", type=int, choices=(0, 1), help="only with so many lost commands")
    parser.add_argument("--only", default="", help="only contenders with this in their name")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        asyncio.run(run_peer(options.peer))
        return
    world = VmWorld()
    contenders: dict[str, Read] = {
        "direct, CAP_NET_ADMIN": ours(world, "direct"),
        "bluez, CAP_NET_ADMIN": ours(world, "bluez"),
        "direct": ours(world, "direct", UNPRIVILEGED),
        "bluez": ours(world, "bluez", UNPRIVILEGED),
        "plain bleak script": peer(world, "plain"),
    }
    programs = f"bleak {version('bleak')}"
    try:
        import aiobmsble as _  # noqa: F401, PLC0415 - needs Python 3.12
    except ImportError:
        pass
    else:
        contenders["aiobmsble, keep_alive=False"] = peer(world, "let-go")
        contenders["aiobmsble, keep_alive=True"] = peer(world, "kept")
        programs += f", aiobmsble {version('aiobmsble')}"
    chosen = {name: read for name, read in contenders.items() if options.only in name}
    print(
        f"Linux {os.uname().release}, {bluetoothd()}, Python {platform.python_version()}, "
        f"{programs}; medians of {options.times} readings; {processor()}"
    )
    for radio in ("interval-true", "0ms"):
        for lost in (0, 1):
            if options.radio in (None, radio) and options.lost in (None, lost):
                print(f"\n{radio} radio, {('no', 'the first')[lost]} command lost:\n", flush=True)
                with conditions(world, interval_true=radio == "interval-true", lost=lost):
                    table(chosen, lost, options.times)


def bluetoothd() -> str:
    printed = subprocess.run(
        ["/usr/libexec/bluetooth/bluetoothd", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    return f"bluetoothd {printed.stdout.strip()}"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    main()
