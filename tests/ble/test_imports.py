"""A process loads only what the transports that it uses need."""

import asyncio
import subprocess
import sys

import pytest

from exporter.ble import machine
from exporter.ble.direct import sockets
from exporter.ble.direct.sockets import Adapter
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Config,
    Name,
    TransportChoice,
    normal_address,
)
from tests.support.att_server import HCI0
from tests.support.paths import PROJECT
from tests.support.virtual import ADDRESS

READ_OVER_DIRECT = """
import asyncio, errno, sys
from exporter import cli
from tests.support.direct_battery import DirectBattery, quick

async def main():
    async with asyncio.TaskGroup() as tasks:
        direct = DirectBattery(tasks, quick())
        direct.air.errors.append(OSError(errno.ENOSYS, "Function not implemented"))
        assert (await direct.poll()).up
        assert len(direct.air.attempts) == 2

asyncio.run(main())
print(*sorted(sys.modules))
"""


def test_direct_link_loads_neither_bleak_nor_dbus() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", READ_OVER_DIRECT],
        check=True,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()

    packages = {name.partition(".")[0] for name in loaded}
    assert "exporter.ble.direct.connection" in loaded
    assert not {"bleak", "dbus_fast", "bleak_retry_connector"} & packages


@pytest.mark.parametrize(
    ("link", "adapters", "adapter", "is_loaded"),
    [
        (TransportChoice.BLUEZ, 1, None, True),
        (TransportChoice.DIRECT, 1, None, False),
        (TransportChoice.AUTO, 1, None, False),
        (TransportChoice.AUTO, 2, None, True),  # bluetoothd compares them
        (TransportChoice.AUTO, 2, "hci1", False),
    ],
)
def test_bleak_is_loaded_at_start_if_it_will_be_used(
    link: TransportChoice,
    adapters: int,
    adapter: AdapterName | None,
    is_loaded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    present = [HCI0, Adapter(1, "00:1B:DC:0F:AA:02", up=True)][:adapters]
    monkeypatch.setattr(sockets, "why_not", lambda: None)
    monkeypatch.setattr(sockets, "adapters", lambda: present)
    monkeypatch.setattr(machine, "import_module", loaded.append)
    battery = BatteryConfig(name=Name("camper"), address=normal_address(ADDRESS), adapter=adapter)

    asyncio.run(machine.build_routes(Config(batteries=(battery,), link=link)))

    assert loaded == ["exporter.ble.bleak"] * is_loaded


def test_library_for_proxies_is_not_loaded_without_one() -> None:
    program = "import sys, exporter.cli, exporter.ble.bleak; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ).stdout.split()

    packages = {name.partition(".")[0] for name in loaded}
    assert "exporter.ble.proxies" in loaded
    assert "exporter.ble.proxy" not in loaded
    assert not {"aioesphomeapi", "google", "zeroconf"} & packages
