"""A battery is heard, read over each route, and judged; nothing is changed on the machine."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import CONNECTED, CONNECTING
from exporter.ble.scanner import StuckDiscoveryError
from exporter.config.schema import (
    AdapterName,
    BatteryConfig,
    Name,
    ProfileName,
    TransportChoice,
    normal_address,
)
from exporter.demo.battery import Faults, VirtualBattery
from exporter.demo.radio import Air, make_air, make_backend
from exporter.doctor.batteries import Examination, examine, found_batteries, listen_to
from exporter.doctor.check import Check, State
from exporter.doctor.listen import Listening
from exporter.doctor.means import Means
from exporter.doctor.others import Others
from exporter.doctor.report import Report
from exporter.doctor.running_exporter import Presence, RunningExporter
from exporter.doctor.wedge import check_scan
from exporter.errors import AdapterError
from exporter.protocol.profiles import PROFILES
from tests.support import att_server
from tests.support.att_server import HCI0
from tests.support.virtual import ADDRESS, battery

CAMPER = BatteryConfig(name=Name("camper"), address=normal_address(ADDRESS))
real_sockets = pytest.mark.looptime(False)  # noqa: FBT003 - socket pairs live in real time


@dataclass
class Case:
    """One battery, what is used to read it, and the checks that came of it."""

    virtual: VirtualBattery = field(default_factory=lambda: battery(faults=Faults(reply_s=0.05)))
    routes: Sequence[str] = ("direct", "gentle")
    others: Others = field(default_factory=Others)
    exporter: RunningExporter = field(default_factory=lambda: RunningExporter("http://localhost:1"))
    config: BatteryConfig = CAMPER
    link: TransportChoice = TransportChoice.AUTO
    timeout_s: float = 2.0  # a busy machine may take a second to connect
    means: dict[str, Any] = field(default_factory=dict)
    air: att_server.Air | None = None
    report: Report = field(default_factory=lambda: Report(write=lambda _: None))
    kernel: Kernel | None = None
    resolve: Callable[[str], AdapterName | None] = AdapterName

    async def examine(self) -> bool:
        self.air = self.air or att_server.Air({ADDRESS: self.virtual})
        options: dict[str, Any] = {
            "routes": self.routes,
            "kernel": self.kernel or self.air.make_kernel(),
            "scans": False,
        }
        examined = Examination(
            means=Means(**options | self.means),
            others=self.others,
            exporter=self.exporter,
            report=self.report,
            timeout_s=self.timeout_s,
            link=self.link,
            resolve=self.resolve,
        )
        listening = await listen_to(examined, [self.config])
        return await examine(examined, self.config, listening)

    def __getitem__(self, name: str) -> Check:
        (check,) = (check for check in self.report.checks if check.id == name)
        return check

    @property
    def ids(self) -> list[str]:
        return [check.id for check in self.report.checks]


def virtual_case(air: Air, **options: Any) -> Case:
    """Return a case over bleak's virtual radio, on virtual time."""
    means = {"backend": make_backend(air), "scans": True}
    return Case(routes=("bluez",), timeout_s=30.0, means=means, **options)


class TestDirect:
    @real_sockets
    async def test_healthy_battery_is_read_with_the_time_of_each_step(self) -> None:
        case = Case()

        assert await case.examine()

        facts = case["battery.direct"].facts
        steps: dict[str, float] = dict(facts["steps"])  # type: ignore[arg-type] # a list of pairs
        assert list(steps) == [
            "open", "connected", "table", "subscribed", "answer", "read", "disconnected",
        ]  # fmt: skip
        assert list(steps.values()) == sorted(steps.values())
        assert facts["profile"] == "nus"
        assert facts["address_type"] == "public"
        assert facts["mtu"] == 23
        assert facts["resends"] == 0
        assert facts["table_requests"] == 7
        assert set(facts["pieces"]) <= {20, 16, 14, 7}  # type: ignore[arg-type] # a list
        assert case["battery"].text == "read over direct: 13.21 V, 93%"
        assert case.ids == ["battery.direct", "battery"]

    @real_sockets
    async def test_only_read_requests_reach_the_battery(self) -> None:
        case = Case(means={"tries_gentle": True})

        assert await case.examine()

        assert case.virtual.illegal == []
        assert case.virtual.connects == case.virtual.disconnects == 2

    @real_sockets
    async def test_gentle_route_asks_for_the_mtu(self) -> None:
        case = Case(means={"tries_gentle": True})

        await case.examine()

        assert case["battery.gentle"].facts["mtu"] == att_server.SERVER_MTU

    @real_sockets
    async def test_lost_first_request_is_shown_as_a_resend(self) -> None:
        case = Case(virtual=battery(faults=Faults(lose_first=2, reply_s=0.005)))

        assert await case.examine()

        assert case["battery.direct"].state is State.NOTE
        assert "1 resend" in case["battery.direct"].text

    @real_sockets
    async def test_interference_is_a_failure_with_its_errno_and_cure(self) -> None:
        case = Case(timeout_s=0.2)
        case.air = att_server.Air({ADDRESS: case.virtual})
        case.air.errors += [OSError(errno.ENOSYS, "Function not implemented")] * 20

        assert not await case.examine()

        assert case["battery.direct"].facts["errno"] == errno.ENOSYS
        assert case["battery.direct"].facts["cause"] == "radio"
        assert case.ids == ["battery.direct", "battery.gentle", "battery"]
        assert case["battery"].state is State.FAIL
        assert "heard, but the connection did not come about" in case["battery"].text
        assert "bring the adapter closer" in (case["battery"].advice or "")

    @pytest.mark.parametrize(
        ("virtual", "reason", "advice"),
        [
            (battery(faults=Faults(gone=True)), "not_found", "close the phone app"),
            (battery(faults=Faults(silent=True)), "timeout", "wake it"),
            (battery(gatt=()), "profile", "another device"),
        ],
    )
    @real_sockets
    async def test_verdict_says_what_to_do(
        self, virtual: VirtualBattery, reason: str, advice: str
    ) -> None:
        case = Case(virtual=virtual, routes=("direct",), timeout_s=0.5)

        assert not await case.examine()

        assert case["battery"].facts["failed"] == {"direct": reason}
        assert advice in (case["battery"].advice or "")

    @real_sockets
    async def test_configured_profile_that_the_battery_lacks_fails(self) -> None:
        config = replace(CAMPER, profile=ProfileName("ff00"))
        case = Case(virtual=battery(gatt=(PROFILES["fff0"],)), routes=("direct",), config=config)

        assert not await case.examine()

        assert "profile ff00 is configured" in case["battery"].text
        assert "leave profile out" in (case["battery"].advice or "")

    @real_sockets
    async def test_battery_that_takes_the_other_kind_of_write_is_read(self) -> None:
        virtual = battery(
            write_properties=("write-without-response",),
            takes_response=True,
            faults=Faults(reply_s=0.05),
        )
        case = Case(virtual=virtual, routes=("direct",))

        assert await case.examine()

        assert case["battery.direct"].facts["other_write"]
        assert "only with the other kind of write" in case["battery.direct"].text


class TestWedge:
    @real_sockets
    async def test_adapter_that_answers_no_command_is_a_failure(self) -> None:
        case = Case(virtual=battery(faults=Faults(gone=True)), timeout_s=0.1)
        air = att_server.Air({ADDRESS: case.virtual})
        looks = iter(range(100))
        case.kernel = replace(
            air.make_kernel(),
            adapters=lambda: [replace(HCI0, commands_sent=next(looks), events_received=7)],
        )

        assert not await case.examine()

        assert case["wedge"].state is State.FAIL
        assert "hci0 does not answer any more" in case["wedge"].text
        assert case.ids.index("wedge") < case.ids.index("battery")

    def test_scan_that_nobody_runs_is_a_failure(self) -> None:
        stuck = Listening(error=StuckDiscoveryError("hci0"))

        check = check_scan(stuck, discovering=False)
        assert check is not None
        assert check.state is State.FAIL
        assert check_scan(stuck, discovering=True) is None
        assert check_scan(Listening(error=AdapterError("no adapter")), discovering=False) is None
        assert check_scan(Listening(), discovering=False) is None


class TestLeftAlone:
    @pytest.mark.parametrize(
        "options",
        [
            {"others": Others(connections=[(ADDRESS, CONNECTED)])},
            {"others": Others(by_bluetoothd=frozenset({ADDRESS}))},
            {"routes": ()},
            {"config": replace(CAMPER, adapter=AdapterName("hci9")), "resolve": lambda _: None},
        ],
    )
    async def test_battery_of_somebody_else_is_not_touched(self, options: dict[str, Any]) -> None:
        case = Case(**options)

        assert not await case.examine()

        assert case["battery"].state is State.UNKNOWN
        assert case["battery"].text.startswith("not tried: ")
        assert case.virtual.connects == 0

    async def test_exporter_that_does_not_release_a_battery_is_the_cause(self) -> None:
        case = Case(exporter=RunningExporter("http://localhost:1", presence=Presence.LOCKED))

        assert not await case.examine()

        assert case["battery"].state is State.FAIL
        assert "systemctl stop bms-exporter" in (case["battery"].advice or "")
        assert case.virtual.connects == 0

    @real_sockets
    async def test_battery_that_something_connects_to_is_tried(self) -> None:
        case = Case(others=Others(connections=[(ADDRESS, CONNECTING)]))

        assert await case.examine()


class TestBluez:
    async def test_healthy_battery_is_heard_read_and_heard_again(self) -> None:
        case = virtual_case(make_air([battery(name="JBD-SP04S034-777")]))

        assert await case.examine()

        assert case.ids == ["battery.heard", "battery.bluez", "battery.heard_again", "battery"]
        heard = case["battery.heard"].facts
        assert heard["first_s"] == 0.5
        assert heard["rssi_median_dbm"] == -67
        assert heard["name"] == "JBD-SP00S000-000"
        facts = case["battery.bluez"].facts
        assert [name for name, _ in facts["steps"]] == [  # type: ignore[union-attr, misc] # pairs
            "heard", "connected", "table", "subscribed", "answer", "read", "disconnected",
        ]  # fmt: skip
        assert facts["mtu"] == 23
        (record,) = case.report.batteries
        assert record["heard_again_s"] == 0.5
        assert "JBD-SP04S034" not in case.report.as_json()

    async def test_weak_battery_gets_a_warning(self) -> None:
        case = virtual_case(make_air([battery(rssi_dbm=-91)]))

        assert await case.examine()

        assert case["battery.heard"].state is State.WARN
        assert "weak" in case["battery.heard"].text

    async def test_missing_battery_fails(self) -> None:
        case = virtual_case(make_air([battery(faults=Faults(gone=True))]))

        assert not await case.examine()

        assert case["battery.heard"].text == "not heard in 10 s; other devices: 0"
        assert case["battery"].text == "not read: it was not seen"

    async def test_scan_that_fails_is_unknown(self) -> None:
        air = make_air([battery()])
        air.scan_error = OSError("the adapter is on fire")
        case = virtual_case(air)

        assert not await case.examine()

        assert case["battery.heard"].state is State.UNKNOWN
        assert "the adapter is on fire" in case["battery.heard"].text

    async def test_link_that_works_is_named_where_the_configured_one_does_not(self) -> None:
        case = virtual_case(make_air([battery()]), link=TransportChoice.DIRECT)

        assert not await case.examine()

        assert case["battery"].facts["read_over"] == ["bluez"]
        assert case["battery"].advice == "set link: bluez, which reads it"

    async def test_heard_battery_that_no_way_reaches_is_no_absent_one(self) -> None:
        air = make_air([battery()])
        case = virtual_case(air)
        case.routes = ("direct",)
        case.kernel = att_server.Air({ADDRESS: battery(faults=Faults(gone=True))}).make_kernel()
        case.means["kernel"] = case.kernel
        case.means["routes"] = ("direct",)

        assert not await case.examine()

        assert case["battery"].text == "not read: it is heard, and no way to it connects"
        assert "bluetoothctl power off" in (case["battery"].advice or "")

    async def test_jbd_batteries_are_found_without_a_configuration(self) -> None:
        other = battery("12:34:56:78:9A:BC", name="Headphones", advertises=())
        air = make_air([battery(), other])
        examined = Examination(
            means=Means(routes=("bluez",), backend=make_backend(air)),
            others=Others(),
            exporter=RunningExporter("http://localhost:1"),
            report=Report(write=lambda _: None),
            timeout_s=30.0,
        )

        listening = await listen_to(examined, [])

        assert [one.address for one in found_batteries(listening)] == [ADDRESS]
