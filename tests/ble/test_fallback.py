"""Each battery is reached over the route that helps against what failed before."""

import asyncio
import logging

import pytest

from exporter.ble.transport import Target
from exporter.config.schema import TransportChoice
from exporter.errors import BmsError
from exporter.link_stats import Route
from tests.support.route_machine import (
    ABSENT,
    BLUEZ,
    FAST,
    GATT,
    GENTLE,
    OFF,
    PAIRING,
    QUIET,
    RADIO,
    REFUSED,
    Fault,
    Machine,
)
from tests.support.virtual import ADDRESS, now_s


class Polls:
    """Polls one battery every minute."""

    def __init__(
        self, machine: Machine, link: TransportChoice | None = None, *, gentle: bool = False
    ) -> None:
        self.machine = machine
        self.routes = machine.routes()
        self.target = Target(address=ADDRESS, stats=machine.stats, link=link, gentle=gentle)
        self.routes.track(self.target)

    async def poll(self, times: int = 1, every_s: float = 60.0) -> list[str]:
        """Poll so often; return the routes that were used."""
        before = len(self.machine.used)
        for _ in range(times):
            await asyncio.sleep(every_s)
            try:
                async with self.routes.connect(
                    self.target, deadline_s=now_s() + 30.0, explore_s=150.0
                ):
                    if self.machine.faults.get(self.machine.used[-1]) is QUIET:
                        error = QUIET()
                        raise error
            except BmsError:
                pass
        return self.machine.used[before:]


async def test_battery_that_direct_cannot_read_is_read_through_bluetoothd() -> None:
    machine = Machine({FAST: GATT, GENTLE: GATT})

    used = await Polls(machine).poll(5)

    assert used == [FAST, GENTLE, BLUEZ, BLUEZ, BLUEZ]
    assert machine.stats.route == Route("bluez", "hci0", "fast")
    assert machine.stats.route_changes == {"gatt": 2}


async def test_time_of_the_first_connection_over_a_route_is_kept() -> None:
    machine = Machine({FAST: GATT, GENTLE: GATT})
    polls = Polls(machine)
    await polls.poll(5)

    assert machine.stats.totals().route_since_s == 3 * 60.0


async def test_module_that_needs_the_mtu_is_read_gently() -> None:
    machine = Machine({FAST: QUIET})

    assert await Polls(machine).poll(4) == [FAST, GENTLE, GENTLE, GENTLE]
    assert machine.stats.route == Route("direct", "hci0", "gentle")


async def test_battery_that_wants_pairing_is_read_through_bluetoothd_from_the_next_poll() -> None:
    assert await Polls(Machine({FAST: PAIRING, GENTLE: PAIRING})).poll(3) == [FAST, BLUEZ, BLUEZ]


async def test_pairing_by_hand_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paired: set[str] = set()

    async def is_paired(address: str) -> bool:
        return address in paired

    monkeypatch.setattr("exporter.ble.bluez.is_paired", is_paired)
    machine = Machine(dict.fromkeys([FAST, GENTLE, BLUEZ], PAIRING))
    polls = Polls(machine)
    assert await polls.poll(4) == [FAST, BLUEZ, FAST, FAST]
    paired.add(ADDRESS)
    machine.faults.pop(BLUEZ)

    assert await polls.poll(3) == [BLUEZ] * 3


async def test_pairing_that_does_not_help_costs_one_attempt_a_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def is_paired(_address: str) -> bool:
        return True  # without its PIN

    monkeypatch.setattr("exporter.ble.bluez.is_paired", is_paired)

    used = await Polls(Machine(dict.fromkeys([FAST, GENTLE, BLUEZ], PAIRING))).poll(4)

    assert used == [FAST, BLUEZ, BLUEZ, BLUEZ]


async def test_refusal_of_the_kernel_costs_no_poll() -> None:
    machine = Machine({FAST: REFUSED})
    polls = Polls(machine)

    assert await polls.poll(3) == [FAST, BLUEZ, BLUEZ, BLUEZ]
    assert machine.stats.route_changes == {"machine": 1}


async def test_missing_bluetoothd_does_not_end_what_direct_can_read_again() -> None:
    machine = Machine({FAST: REFUSED})
    polls = Polls(machine)
    await polls.poll(3)
    machine.faults = {BLUEZ: REFUSED}

    assert await polls.poll(2) == [BLUEZ, FAST, FAST]


@pytest.mark.parametrize("fault", [OFF, ABSENT], ids=["off", "absent"])
async def test_adapter_or_battery_that_is_away_changes_no_route(fault: Fault) -> None:
    machine = Machine({FAST: fault})

    assert set(await Polls(machine).poll(200)) == {FAST}
    assert machine.stats.route_changes == {}


@pytest.mark.parametrize(
    ("link", "routes"),
    [(TransportChoice.DIRECT, {FAST, GENTLE}), (TransportChoice.BLUEZ, {BLUEZ})],
)
async def test_configured_link_is_never_left(link: TransportChoice, routes: set[str]) -> None:
    for fault in (GATT, RADIO, QUIET, PAIRING, REFUSED):
        machine = Machine(dict.fromkeys([FAST, GENTLE, BLUEZ], fault))

        assert set(await Polls(machine, link).poll(10)) <= routes


@pytest.mark.parametrize(
    ("link", "routes"),
    [
        (TransportChoice.AUTO, [GENTLE, BLUEZ]),
        (TransportChoice.DIRECT, [GENTLE]),
        (TransportChoice.BLUEZ, [BLUEZ]),
    ],
)
async def test_configured_gentle_style_is_never_left(
    link: TransportChoice, routes: list[str]
) -> None:
    for fault in (GATT, RADIO, QUIET, PAIRING, REFUSED):
        machine = Machine(dict.fromkeys([FAST, GENTLE, BLUEZ], fault))

        used = await Polls(machine, link, gentle=True).poll(10)

        assert used[0] == routes[0]
        assert set(used) <= set(routes)


async def test_faster_route_is_used_again_once_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    machine = Machine({FAST: GATT, GENTLE: GATT})
    polls = Polls(machine)
    await polls.poll(5)
    machine.faults = {}

    await polls.poll(150)

    assert machine.used[-1] == FAST
    assert machine.stats.route_changes == {"gatt": 2, "return": 2}
    changes = [record for record in caplog.records if record.message == "route changed"]
    levels = [record.levelno for record in changes]
    assert levels == [logging.WARNING, logging.WARNING, logging.INFO, logging.INFO]
    facts = [(vars(change)["permanent"], vars(change).get("again_in")) for change in changes]
    assert facts == [
        ("gentle: true", "1h"),
        ("link: bluez", "1h"),
        ("gentle: true", "1h"),
        ("link: direct", None),
    ]
    assert {vars(change)["see"] for change in changes} == {"docs/routes.md"}


async def test_trial_of_a_faster_route_costs_no_reading_that_would_be_seen() -> None:
    machine = Machine({FAST: GATT, GENTLE: GATT})
    polls = Polls(machine)
    await polls.poll(5)

    # The last reading is too old for a trial whenever a poll comes.
    assert set(await polls.poll(50, every_s=200.0)) == {BLUEZ}


@pytest.mark.parametrize("event", ["a new adapter", "a resume", "nothing new"])
async def test_new_adapter_or_place_forgets_lost_connections(event: str) -> None:
    machine = Machine({FAST: RADIO}, adapters=["hci0"])
    polls = Polls(machine)
    assert await polls.poll(2) == [FAST, FAST]  # the third one in a row would be followed by a try
    if event == "a new adapter":
        machine.adapters = ["hci1"]
    elif event == "a resume":
        machine.suspended_s = 3600.0

    used = await polls.poll(2)

    assert used == [FAST, GENTLE] if event == "nothing new" else [FAST, FAST]


@pytest.mark.parametrize("event", ["a new adapter", "a resume"])
async def test_new_adapter_or_place_keeps_what_is_known_of_the_battery(event: str) -> None:
    machine = Machine({FAST: GATT, GENTLE: GATT}, adapters=["hci0"])
    polls = Polls(machine)
    await polls.poll(5)
    if event == "a new adapter":
        machine.adapters = ["hci1"]
    else:
        machine.suspended_s = 3600.0

    assert set(await polls.poll(3)) == {BLUEZ}


async def test_removed_battery_begins_with_the_fastest_route_when_it_returns() -> None:
    polls = Polls(Machine({FAST: GATT, GENTLE: GATT}))
    await polls.poll(5)
    polls.routes.untrack(ADDRESS)
    polls.routes.track(polls.target)

    assert await polls.poll() == [FAST]
