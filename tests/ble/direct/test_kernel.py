"""An adapter connects to one battery at a time, and the timeouts of the others allow for it."""

import asyncio
import errno
import time
from socket import socket

import pytest

from exporter.ble.adapter_health import AdapterHealths
from exporter.ble.direct.kernel import Kernel, Turns
from exporter.ble.direct.management import Management, ManagementError
from exporter.ble.direct.sockets import Adapter
from exporter.ble.direct.transport import DirectTransport
from exporter.ble.transport import Target
from exporter.errors import LinkError
from exporter.link_stats import LinkStats
from tests.support.att_server import HCI0
from tests.support.virtual import ADDRESS, now_s

HCI1 = Adapter(1, "00:1B:DC:0F:AA:02", up=True)


@pytest.mark.looptime(False)  # noqa: FBT003 - a slow machine is slow in real time
async def test_timeout_during_another_connect_concerns_one_battery() -> None:
    turns = Turns()

    async def wait_for_nothing() -> None:
        async with turns.wait(0.05):
            await asyncio.sleep(10.0)

    waiting = asyncio.create_task(wait_for_nothing())
    await asyncio.sleep(0)
    async with turns.wait(5.0):
        time.sleep(0.1)  # noqa: ASYNC251 - a slow machine
        await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await waiting


@pytest.mark.parametrize(("failed_after_s", "waited_s"), [(0.0, 10.0), (2.0, 12.0), (9.0, 14.0)])
async def test_failed_connect_gives_the_others_no_more_time_than_it_took(
    failed_after_s: float, waited_s: float
) -> None:
    turns = Turns()
    began_s = now_s()

    async def wait_for_nothing() -> None:
        async with turns.wait(10.0):
            await asyncio.sleep(100.0)

    waiting = asyncio.create_task(wait_for_nothing())
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        async with turns.wait(50.0):
            await asyncio.sleep(failed_after_s)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    with pytest.raises(TimeoutError):
        await waiting
    assert now_s() - began_s == waited_s


@pytest.mark.parametrize("fault", ["hangs", "refuses"])
async def test_adapter_with_a_fault_does_not_delay_a_battery_of_another(fault: str) -> None:
    """Both batteries are held by another program; the faulty adapter is hci0."""

    async def command(_opcode: int, adapter: int, _payload: bytes) -> tuple[int, bytes]:
        if adapter == HCI0.index and fault == "hangs":
            await asyncio.sleep(3.0)
            raise ManagementError("no answer in 3 s")
        return 0, b""

    async def open_channel(_address: str, _kind: int, adapter: str) -> socket:
        if adapter == HCI0.address and fault == "hangs":
            await asyncio.sleep(100.0)
        if adapter == HCI0.address:
            raise OSError(errno.EMLINK, "Too many links")
        await asyncio.sleep(1.0)
        raise OSError(errno.EBUSY, "Device or resource busy")

    kernel = Kernel(
        open_channel=open_channel,
        adapters=lambda: [HCI0, HCI1],
        connected_on=lambda _: None,
        connections=lambda _: [],
    )
    managed = Management(
        release=True, parameters=True, power=True, rssi=True, command=command, kernel=kernel
    )

    async def connect(adapter: str) -> float:
        transport = DirectTransport(
            adapter=adapter, kernel=kernel, management=managed, healths=healths, clock=now_s
        )
        target = Target(address=ADDRESS, stats=LinkStats())
        with pytest.raises(LinkError):
            async with transport.connect(target, deadline_s=now_s() + 30.0):
                pass
        return now_s()

    healths = AdapterHealths(now_s)
    began_s = now_s()
    faulty, healthy = await asyncio.gather(connect("hci0"), connect("hci1"))

    assert healthy - began_s == 1.0
    assert faulty > healthy
