"""For how long a reading (registers 03 and 04) holds its battery: this exporter beside its peers.

Runs in the virtual machine of tests/bluez; `make bench-hold` starts it there. Every contender reads
battery 1 a few times; the battery counts the seconds. In between bluetoothd forgets it, as it does
by itself 30 s after a connection: nobody scrapes a camper more often than that.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "bluez"))

from vm_world import VmWorld
from world import Exporter, address, info, let_go, set_faults, value

BATTERY: Final = 1  # advertises and has ff00, as all programs expect
PAUSE_S: Final = 1.0
UNPRIVILEGED: Final = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")


def ours(world: VmWorld, link: str, through: Sequence[str] = ()) -> Callable[[int], list[float]]:
    """Read as Prometheus does: one scrape, one reading."""

    def read(times: int) -> list[float]:
        config = (
            f"link: {link}\npoll: {{timeout: 25s, min_interval: 0, max_age: 0, backoff_max: 1s}}\n"
            f"batteries: [{{name: b, address: '{address(BATTERY)}'}}]\n"
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            Exporter(world, config, Path(folder), through=through) as it,
        ):
            return [held(world, lambda: shown(it)) for _ in range(times)]

    return read


def shown(exporter: Exporter) -> bool:
    return value(exporter.scrape(), "bms_up", "b") == 1


def held(world: VmWorld, act: Callable[[], bool]) -> float:
    """Return for how many seconds the battery was held for one reading; nan: it failed."""
    before = info(world, BATTERY)["held_s"]
    succeeded = act()
    after = let_go(world, BATTERY, within_s=30.0)["held_s"]
    time.sleep(PAUSE_S)
    subprocess.run(
        ["bluetoothctl", "remove", address(BATTERY)], check=False, stdout=subprocess.DEVNULL
    )
    return after - before if succeeded else float("nan")


def script(world: VmWorld, name: str) -> Callable[[int], list[float]]:
    """Read by a peer, in a process of its own that stays for all readings."""

    def read(times: int) -> list[float]:
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
                return process.stdout.readline() == "ok\n"

            assert process.stdout.readline() == "ready\n"
            seconds = [held(world, once) for _ in range(times)]
            process.stdin.close()
        return seconds

    return read


async def peer(name: str) -> None:
    """Read once for every line of the standard input."""
    from bleak import BleakScanner  # noqa: PLC0415 - the exporter's own needs none

    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        try:
            device = await BleakScanner.find_device_by_address(address(BATTERY), timeout=20.0)
            await PEERS[name](device)()
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            print(f"{type(error).__name__}: {error}", flush=True)
        else:
            print("ok", flush=True)


def aiobmsble(device: Any) -> Callable[[], Any]:
    """Return aiobmsble's own way, told to disconnect after each reading."""
    from aiobmsble import BMSConfig  # noqa: PLC0415
    from aiobmsble.bms.jbd_bms import BMS  # noqa: PLC0415

    update: Callable[[], Any] = BMS(device, BMSConfig(keep_alive=False)).async_update
    return update


def plain(device: Any) -> Callable[[], Any]:
    """Return what scripts for this BMS do: connect, subscribe, ask, wait, disconnect."""
    from bleak import BleakClient  # noqa: PLC0415

    async def read() -> None:
        async with BleakClient(device) as client:
            arrived: asyncio.Queue[bytes] = asyncio.Queue()
            await client.start_notify("ff01", lambda _, data: arrived.put_nowait(bytes(data)))
            for request in ("dda50300fffd77", "dda50400fffc77"):
                frame = b""
                await client.write_gatt_char("ff02", bytes.fromhex(request), response=False)
                for _ in range(3):  # they ask again, some after a second
                    try:
                        while len(frame) < 4 or len(frame) < frame[3] + 7:
                            frame += await asyncio.wait_for(arrived.get(), 1.0)
                        break
                    except TimeoutError:
                        await client.write_gatt_char("ff02", bytes.fromhex(request), response=False)

    return read


PEERS: Final = {"aiobmsble": aiobmsble, "plain": plain}


@contextmanager
def lost_first(world: VmWorld, lose: int) -> Any:
    set_faults(world, BATTERY, lose_first=lose)
    yield
    set_faults(world, BATTERY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--peer", choices=PEERS)
    options = parser.parse_args()
    if options.peer:
        asyncio.run(peer(options.peer))
        return
    world = VmWorld()
    contenders: dict[str, Callable[[int], list[float]]] = {
        "direct, CAP_NET_ADMIN": ours(world, "direct"),
        "bluez, CAP_NET_ADMIN": ours(world, "bluez"),
        "direct": ours(world, "direct", UNPRIVILEGED),
        "bluez": ours(world, "bluez", UNPRIVILEGED),
        "plain bleak script": script(world, "plain"),
    }
    try:
        import aiobmsble as _  # noqa: F401, PLC0415 - needs Python 3.12
    except ImportError:
        pass
    else:
        contenders["aiobmsble, keep_alive=False"] = script(world, "aiobmsble")
    print(f"# Linux {os.uname().release}, {bluetoothd()}, {options.times} readings each")
    medians: dict[tuple[str, int], float] = {}
    for lose in (0, 1):
        for name, read in contenders.items():
            with lost_first(world, lose):
                seconds = read(options.times)
            median = medians[name, lose] = statistics.median(seconds)
            print(
                f"{name:28} lost {lose}: {min(seconds):.3f} {median:.3f} {max(seconds):.3f} s",
                flush=True,
            )
    base = "aiobmsble, keep_alive=False"
    if (base, 0) in medians:
        for (name, lose), median in medians.items():
            print(f"{name:28} lost {lose}: {median / medians[base, lose]:.3f} of {base}")


def bluetoothd() -> str:
    said = subprocess.run(
        ["/usr/libexec/bluetooth/bluetoothd", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    return f"bluetoothd {said.stdout.strip()}"


if __name__ == "__main__":
    main()
