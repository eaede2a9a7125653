"""What a poll may send and a start may load: figures that no other program changes."""

import asyncio
import os
import subprocess
import sys

import pytest

from exporter.ble.direct.transport import DirectTransport
from exporter.config.schema import PollConfig, Seconds
from exporter.demo.battery import Faults
from tests.support import att_server
from tests.support.virtual import battery, make_direct_routes, make_poller, now_s


@pytest.mark.looptime(False)  # noqa: FBT003 - sockets live in real time
async def test_poll_over_direct_link_sends_3_att_packets_and_the_first_12(
    tasks: asyncio.TaskGroup,
) -> None:
    virtual = battery(faults=Faults(reply_s=0.06))
    air = att_server.Air({virtual.address: virtual})
    poll = PollConfig(min_interval_s=Seconds(0.0), max_age_s=Seconds(0.0))
    routes = make_direct_routes(DirectTransport(kernel=air.make_kernel(), clock=now_s))
    poller = make_poller(routes, tasks, address=virtual.address, poll=poll)

    for _ in range(4):
        assert (await poller.refresh()).up
        await poller.close()

    packets = [len(server.received) for server in air.servers]
    assert packets[0] == 12
    assert min(packets[1:]) == 3  # a busy machine may resend


@pytest.mark.parametrize("module", ["exporter.app", "exporter.cli"])
def test_start_loads_at_most_425_modules(module: str) -> None:
    program = f"import sys; n = len(sys.modules); import {module}; print(len(sys.modules) - n)"

    printed = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if "COV" not in key},
    ).stdout

    assert int(printed) <= 425
