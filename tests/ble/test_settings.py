"""Settings are read over both transports, on the connection of a reading."""

import asyncio
from collections.abc import Callable
from datetime import date

import pytest

from exporter.app import read_settings_once
from exporter.battery.poller import Poller
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.routes import Routes
from exporter.config.schema import BatteryConfig, Config, Name, SettingsChoice, normal_address
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import make_air, make_backend
from exporter.protocol.settings import SETTING_NAMES
from exporter.protocol.settings_exchange import SettingsFailure
from tests.support import att_server
from tests.support.settings import SETTINGS, make_battery
from tests.support.virtual import (
    ADDRESS,
    make_direct_routes,
    make_poller,
    make_routes,
    now_s,
)

NUMBER = "cell_undervoltage_v"


def over_bleak(virtual: VirtualBattery) -> Routes:
    return make_routes(make_air([virtual]))


def over_sockets(virtual: VirtualBattery) -> Routes:
    air = att_server.Air({virtual.address: virtual})
    return make_direct_routes(DirectTransport(kernel=air.make_kernel(), clock=now_s))


async def finish(poller: Poller) -> None:
    """Wait until the battery is disconnected."""
    while tasks := [one for one in asyncio.all_tasks() if one.get_name() == "poll camper"]:
        await asyncio.wait(tasks)
    assert poller.show().up


@pytest.mark.parametrize("make", [over_bleak, over_sockets])
async def test_settings_are_read_on_the_connection_of_the_reading(
    tasks: asyncio.TaskGroup, make: Callable[[VirtualBattery], Routes]
) -> None:
    virtual = make_battery(faults=Faults(reply_s=0.02))
    poller = make_poller(make(virtual), tasks, settings=SettingsChoice.DAILY)

    assert (await poller.refresh()).reading is not None
    await finish(poller)

    state = poller.show().settings
    assert state is not None
    assert state.number(NUMBER) == 2.5
    assert state.is_left
    assert virtual.connects == 1
    assert virtual.illegal == []


@pytest.mark.parametrize("make", [over_bleak, over_sockets])
async def test_battery_with_settings_switched_off_gets_no_other_request(
    tasks: asyncio.TaskGroup, make: Callable[[VirtualBattery], Routes]
) -> None:
    virtual = make_battery(faults=Faults(reply_s=0.02))
    poller = make_poller(make(virtual), tasks)

    await poller.refresh()
    await finish(poller)

    assert set(virtual.requests) == {0x03, 0x04, 0xAA, 0x05}
    assert virtual.mode_frames == []
    assert virtual.illegal == []


class TestOnDemand:
    CONFIG = BatteryConfig(name=Name("camper"), address=normal_address(ADDRESS))

    async def test_every_register_is_read_in_any_state_of_the_battery(self) -> None:
        virtual = make_battery(settings=SETTINGS | {0x15: b"\x2d\x0c"})
        backend = make_backend(make_air([virtual]))
        config = Config(batteries=(self.CONFIG,))

        shot = await read_settings_once(self.CONFIG, config, tuple(SETTING_NAMES), backend)

        assert shot.up
        assert shot.settings is not None
        assert shot.settings.values["manufactured"] == date(2022, 8, 12)
        assert shot.settings.values["model"] == "JBD-SP04S034"
        assert shot.settings.is_left
        assert not virtual.is_mode_open
        assert not make_air([virtual]).connected

    async def test_refusal_is_counted(self) -> None:
        virtual = make_battery(faults=Faults(refuses_mode=True))
        config = Config(batteries=(self.CONFIG,))

        shot = await read_settings_once(
            self.CONFIG, config, (0x26,), make_backend(make_air([virtual]))
        )

        assert shot.up
        assert shot.settings is not None
        assert shot.settings.rows == ()
        assert shot.settings.failures == {SettingsFailure.REFUSED: 1}
