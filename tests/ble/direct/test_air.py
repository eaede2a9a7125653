"""Combinations of faults over the direct link: the battery is read, or the error has its cause."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.battery.snapshot import Snapshot
from exporter.ble.direct.management import LOAD_CONNECTION_PARAMETERS
from exporter.config.schema import PollConfig, TransportChoice
from exporter.demo.battery import Faults
from exporter.errors import FailureReason
from tests.support.att_server import Air
from tests.support.direct_battery import DirectBattery, quick, remaining_ah

RECORDED_AH: Final = 203.54
POLL_S: Final = 25.0
POLLS_TO_RECOVER: Final = 2
LONGEST_BACKOFF_S: Final = PollConfig().backoff_max_s
ADAPTER, NOT_FOUND, CONNECT = FailureReason.ADAPTER, FailureReason.NOT_FOUND, FailureReason.CONNECT
LINK_LOST, TIMEOUT, PROTOCOL = (
    FailureReason.LINK_LOST,
    FailureReason.TIMEOUT,
    FailureReason.PROTOCOL,
)

# Each fault with values for it, and the reasons that it may have if the battery is not read.
RADIO: Final[Mapping[str, tuple[Sequence[Any], set[FailureReason]]]] = {
    "establish_fails": ((1, 3, 999), {CONNECT}),
    "early_loss": ((1, 999), {CONNECT}),
    "hang_up": ((1, 999), {CONNECT}),
    "deaf": ((True,), {ADAPTER}),
    "min_interval_ms": ((15.0,), {CONNECT, LINK_LOST}),
    "needs_mtu": ((True,), {CONNECT, LINK_LOST}),
    "gap_after_disconnect_s": ((1.0, 15.0), {NOT_FOUND}),
    "advertise_ms": ((1000, 2000), set()),
}
BATTERY: Final[Mapping[str, tuple[Sequence[Any], set[FailureReason]]]] = {
    "lose_first": ((1, 2), set()),
    "silent": ((True,), {TIMEOUT}),
    "one_at_a_time": ((True,), set()),
    "reply_s": ((0.15,), set()),
    "gap_s": ((0.1, 3.0), set()),
    "notification": ((0,), {TIMEOUT}),
    "bad_checksum": ((True,), {PROTOCOL, TIMEOUT}),
    "wrong_register": ((True,), {TIMEOUT, PROTOCOL}),
    "truncated": ((True,), {TIMEOUT, PROTOCOL}),
    "cut": ((True,), {LINK_LOST}),
    "refuses": ((True,), {CONNECT}),
    "gone": ((True,), {NOT_FOUND}),
    "held": ((True,), {NOT_FOUND}),
}


def choose(table: Mapping[str, tuple[Sequence[Any], set[FailureReason]]]) -> Any:
    """Return a strategy for up to three faults of a table, with values."""
    values = {name: st.sampled_from(values) for name, (values, _) in table.items()}
    names = st.lists(st.sampled_from(sorted(values)), unique=True, max_size=3)
    return names.flatmap(lambda some: st.fixed_dictionaries({name: values[name] for name in some}))


class Manager:
    """A kernel with CAP_NET_ADMIN: ends connections at once, and sets the interval of the next."""

    def __init__(self, air: Air) -> None:
        self._air = air

    async def __call__(self, opcode: int, _adapter: int, payload: bytes) -> tuple[int, bytes]:
        if opcode == LOAD_CONNECTION_PARAMETERS:
            self._air.interval_ms = int.from_bytes(payload[11:13], "little") * 1.25
        else:
            for server in self._air.servers:
                server.drop()
        return 0, payload[:7]


class Scene:
    """A battery behind the direct link, and its polls."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.direct = DirectBattery(tasks, quick(), timeout_s=POLL_S, link=TransportChoice.DIRECT)
        self.air = self.direct.air
        self.direct.manage(Manager(self.air), release=True, parameters=True)

    async def poll(self) -> Snapshot:
        """Poll; check that the battery shows its own number or none."""
        await asyncio.sleep(LONGEST_BACKOFF_S)
        snapshot = await self.direct.poller.refresh(timeout_s=2 * POLL_S)
        assert remaining_ah(snapshot) == RECORDED_AH if snapshot.up else snapshot.reading is None
        return snapshot

    async def inject(self, radio: Mapping[str, Any], battery: Mapping[str, Any]) -> None:
        """Poll with faults; check that a failure has one of their reasons."""
        self.air.set_faults(**{"advertise_ms": 100, **radio})
        self.direct.battery.faults = Faults(**battery)
        before = await self.direct.poller.refresh(timeout_s=0.0)
        snapshot = await self.poll()
        if not snapshot.up:
            happened = {
                reason
                for reason, count in snapshot.failures.items()
                if count > before.failures.get(reason, 0)
            }
            expected = set().union(
                *(RADIO[name][1] for name in radio), *(BATTERY[name][1] for name in battery)
            )
            if before.failure is NOT_FOUND and before.identity is None:
                expected.add(NOT_FOUND)  # a short look has time for one of two types of address
            assert happened <= expected, snapshot.last_error

    async def recover(self) -> None:
        """End all faults; check that the battery is read soon."""
        self.air.set_faults()
        self.direct.battery.faults = Faults()
        for _ in range(POLLS_TO_RECOVER):
            snapshot = await self.poll()
            if snapshot.up:
                return
        raise AssertionError(snapshot.last_error)


@given(steps=st.lists(st.tuples(choose(RADIO), choose(BATTERY)), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_battery_is_read_again_after_any_faults_and_each_failure_has_its_reason(
    steps: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            scene = Scene(tasks)
            for radio, battery in steps:
                await scene.inject(radio, battery)
            await scene.recover()
            await scene.direct.poller.close()

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.get_loop().setup_looptime()  # type: ignore[attr-defined]
        runner.run(main())
