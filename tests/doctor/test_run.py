"""The whole of doctor on faked machines: each fault is the one thing to do."""

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from exporter.ble.direct.sockets import CONNECTED
from exporter.demo.battery import Faults
from exporter.demo.radio import make_air, make_backend
from exporter.doctor.bluetoothd import Bluetoothd
from exporter.doctor.check import Check, State
from exporter.doctor.facts import Sources
from exporter.doctor.files import Files
from exporter.doctor.report import Report
from exporter.doctor.rights import Rights
from exporter.doctor.run import Plan, run
from exporter.recording.session import parse_sessions
from tests.support import att_server
from tests.support.exporter_process import free_port
from tests.support.fake_proxy import running_proxy
from tests.support.machines import (
    ADVERTISING,
    CONTAINER,
    LAPTOP,
    LOW_ENERGY,
    MACHINES,
    POWERED,
    Chip,
    FakeMachine,
)
from tests.support.proxied import KEY
from tests.support.virtual import ADDRESS, battery

HCI0 = LAPTOP.adapters[0]
ALLOWED = Rights(channel_errno=None, query_errno=None, capabilities=0)
NO_SOCKETS = Rights(channel_errno=97, query_errno=97, capabilities=0)
RUNNING = Bluetoothd(version="5.82", is_installed=True, adapters={"hci0": {"Powered": True}})
CONFIG_BLUEZ = f"link: bluez\nbatteries: [{{name: camper, address: '{ADDRESS}'}}]\n"
STOPPED = Bluetoothd(problem="not_running", is_installed=True)
real_time = pytest.mark.looptime(False)  # noqa: FBT003 - it opens sockets

pytestmark = real_time


@dataclass
class Case:
    """A machine, a configuration, and how doctor ends there."""

    folder: Path
    machine: FakeMachine = LAPTOP
    rights: Rights = ALLOWED
    daemon: Bluetoothd = STOPPED
    config: str = f"link: direct\nbatteries: [{{name: camper, address: '{ADDRESS}'}}]\n"
    plan: dict[str, Any] = field(default_factory=dict)
    air: att_server.Air | None = None
    backend: Any = None
    report: Report = field(default_factory=lambda: Report(write=lambda _: None))
    lines: list[str] = field(default_factory=list)

    async def run(self) -> int:
        path = self.folder / "config.yaml"
        if self.config:
            path.write_text(self.config)
        virtual = battery(faults=Faults(reply_s=0.05))
        self.air = self.air or att_server.Air({ADDRESS: virtual})
        self.air.adapters = list(self.machine.adapters)
        self.report = Report(write=self.lines.append)
        plan = Plan(config_file=path, exporter_url=f"http://127.0.0.1:{free_port()}", **self.plan)
        return await run(plan, self.sources(), self.report)

    def sources(self) -> Sources:
        async def read_bluetoothd(*_: object) -> Bluetoothd:
            return self.daemon

        async def nothing(_arguments: Sequence[str], _timeout_s: float) -> str | None:
            return None

        def read_rights(_files: Files) -> Rights:
            return self.rights

        assert self.air is not None
        return Sources(
            files=self.machine.write(self.folder / "root"),
            kernel=self.air.make_kernel(),
            command=self.machine.command,
            run_program=nothing,
            read_rights=read_rights,
            read_bluetoothd=read_bluetoothd,
            backend=self.backend,
        )

    @property
    def to_do(self) -> str:
        return self.lines[-1]

    def __getitem__(self, name: str) -> Check:
        (check,) = (check for check in self.report.checks if check.id == name)
        return check


def chip(**options: Any) -> FakeMachine:
    return replace(LAPTOP, chips=[Chip(**options)])


def blocked() -> FakeMachine:
    path = "sys/devices/usb-hci0/1.0/bluetooth/hci0/rfkill0/soft"
    down = [replace(HCI0, up=False)]
    return replace(LAPTOP, files={**LAPTOP.files, path: "1\n"}, adapters=down)


def twins() -> FakeMachine:
    both = [HCI0, replace(HCI0, index=1)]
    return replace(LAPTOP, adapters=both, chips=[Chip(), Chip()])


NO_FAMILY = errno.EAFNOSUPPORT
NO_SOCKETS = Rights(channel_errno=NO_FAMILY, query_errno=NO_FAMILY, capabilities=0)
NO_BUS = Bluetoothd(problem="no_bus")
FAULTS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "no adapter": (
        lambda: {"machine": replace(LAPTOP, adapters=[], chips=[])},
        "adapters: no Bluetooth adapter",
    ),
    "adapter off": (
        lambda: {
            "machine": replace(LAPTOP, adapters=[replace(HCI0, up=False)]),
            "daemon": replace(RUNNING, adapters={"hci0": {"Powered": False}}),
        },
        "hci0: switched off; run bluetoothctl power on",
    ),
    "adapter off because bluetoothd does not run": (
        lambda: {"machine": replace(LAPTOP, adapters=[replace(HCI0, up=False)])},
        "bluetoothd: not running; run sudo systemctl enable --now bluetooth",
    ),
    "rfkill": (lambda: {"machine": blocked()}, "rfkill: hci0 is blocked by software"),
    "not configured": (lambda: {"machine": chip(kind=1)}, "hci0: not configured"),
    "user channel": (lambda: {"machine": chip(kind=None)}, "hci0: another program has it"),
    "Low Energy off": (lambda: {"machine": chip(settings=POWERED)}, "hci0: Low Energy is off"),
    "advertising on": (
        lambda: {"machine": chip(settings=POWERED | LOW_ENERGY | ADVERTISING)},
        "hci0: it advertises itself",
    ),
    "same address": (lambda: {"machine": twins()}, "adapters: hci0 and hci1 have the same address"),
    "no permission": (
        lambda: {"rights": Rights(channel_errno=1, query_errno=1, capabilities=0)},
        "sockets: link: direct cannot open Bluetooth sockets (Operation not permitted)",
    ),
    "container without the host's network": (
        lambda: {"machine": CONTAINER, "rights": NO_SOCKETS, "daemon": NO_BUS},
        "sockets: link: direct cannot open Bluetooth sockets (Address family not supported",
    ),
    "container without the host's D-Bus": (
        lambda: {
            "machine": CONTAINER,
            "rights": NO_SOCKETS,
            "daemon": NO_BUS,
            "config": CONFIG_BLUEZ,
        },
        "bluetoothd: no D-Bus; run the container with the host's D-Bus: -v /run/dbus",
    ),
    "no bluetoothd": (
        lambda: {"config": CONFIG_BLUEZ},
        "bluetoothd: not running; run sudo systemctl enable --now bluetooth",
    ),
    "no permission for D-Bus": (
        lambda: {"config": CONFIG_BLUEZ, "daemon": replace(STOPPED, problem="no_permission")},
        "bluetoothd: no permission to talk to it; run sudo usermod -aG bluetooth",
    ),
    "held": (
        lambda: {"air": att_server.Air({ADDRESS: battery()}, connections=[(ADDRESS, CONNECTED)])},
        "others: another program on this machine is connected to camper",
    ),
    "invalid configuration": (lambda: {"config": "speed: 1\n"}, "config: "),
    "adapter of the configuration": (
        lambda: {"config": f"batteries: [{{name: a, address: '{ADDRESS}', adapter: hci7}}]\n"},
        "config: adapter hci7 is not there",
    ),
    "battery away": (
        lambda: {
            "air": att_server.Air({ADDRESS: battery(faults=Faults(gone=True))}),
            "config": f"link: direct\nbatteries: [{{name: camper, address: '{ADDRESS}'}}]\n"
            "poll: {timeout: 1s}\n",
        },
        "camper: not read: it was not seen; switch it on",
    ),
    "wrong profile": (
        lambda: {"air": att_server.Air({ADDRESS: battery(gatt=())})},
        "camper: not read: no JBD service",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_is_the_one_thing_to_do(fault: str, tmp_path: Path) -> None:
    options, to_do = FAULTS[fault]
    case = Case(tmp_path, **options())

    status = await case.run()

    assert status == 1
    assert case.to_do.startswith(f"One thing to do: {to_do}"), case.lines


async def test_battery_that_answers_ends_with_status_0(tmp_path: Path) -> None:
    case = Case(tmp_path)

    assert await case.run() == 0
    assert "verdict    ok   all batteries answer" in case.lines


@pytest.mark.parametrize("link", ["", "link: garage, "])
@pytest.mark.parametrize("is_usable", [True, False])
async def test_machine_without_bluetooth_is_well_if_its_proxies_are(
    link: str, tmp_path: Path, *, is_usable: bool
) -> None:
    async with running_proxy(key=None if is_usable else KEY) as proxy:
        config = (
            f"proxies: [{{name: garage, host: 127.0.0.1, port: {proxy.port}}}]\n"
            f"batteries: [{{name: camper, {link}address: '{ADDRESS}'}}]\n"
        )
        case = Case(tmp_path, machine=CONTAINER, rights=NO_SOCKETS, config=config)

        status = await case.run()

    assert status == (0 if is_usable else 1)
    assert case["sockets"].state is State.NOTE
    assert case["bluetoothd"].state is State.NOTE
    assert case["battery"].state is State.NOTE
    assert re.match("(Worth a look|One thing to do): proxy: ", case.to_do), case.to_do


@pytest.mark.parametrize("name", MACHINES)
async def test_quick_check_of_every_machine_uses_no_radio(name: str, tmp_path: Path) -> None:
    machine = MACHINES[name]
    rights = NO_SOCKETS if machine is CONTAINER else ALLOWED
    case = Case(tmp_path, machine=machine, rights=rights, daemon=RUNNING, plan={"quick": True})
    case.config = ""

    status = await case.run()

    assert status == 0, case.lines
    assert case.air is not None
    assert case.air.attempts == []
    assert not any(check.id.startswith("battery") for check in case.report.checks)
    assert not any(adapter.address in case.report.as_json() for adapter in machine.adapters)


async def test_link_of_the_command_line_counts_as_configured(tmp_path: Path) -> None:
    case = Case(tmp_path, config=CONFIG_BLUEZ, plan={"link": "direct"})

    assert await case.run() == 0
    assert case["bluetoothd"].state is State.NOTE


async def test_address_on_the_command_line_needs_no_configuration(tmp_path: Path) -> None:
    case = Case(tmp_path, config="", plan={"batteries": [ADDRESS.lower()]})

    assert await case.run() == 0
    assert case["bluetoothd"].state is State.WARN


async def test_without_a_scan_the_address_is_asked_for(tmp_path: Path) -> None:
    case = Case(tmp_path, config="")

    assert await case.run() == 1
    assert case.to_do == (
        "One thing to do: batteries: no battery is configured, and without a scan none can be "
        "found; run bms-exporter doctor with the address of the battery"
    )


async def test_no_battery_in_range_is_a_failure_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.doctor.listen.LONGEST_S", 0.2)
    case = Case(tmp_path, config="", backend=make_backend(make_air([], advertise_every_s=0.02)))

    assert await case.run() == 1
    assert "no JBD battery among 0 devices in range" in case.to_do


async def test_backwards_address_is_named_where_it_may_be_shown(tmp_path: Path) -> None:
    backwards = "01:00:00:38:C1:A4"
    case = Case(
        tmp_path,
        config=f"link: direct\npoll: {{timeout: 1s}}\n"
        f"batteries: [{{name: a, address: '{backwards}'}}]",
        air=att_server.Air({backwards: battery(backwards, faults=Faults(gone=True))}),
    )

    assert await case.run() == 1
    assert "--show-addresses" in case.to_do


async def test_every_connection_is_recorded_without_the_address(tmp_path: Path) -> None:
    lines: list[str] = []
    case = Case(tmp_path, plan={"link": "both", "record": lines.append})

    await case.run()

    sessions = parse_sessions("".join(f"{line}\n" for line in lines), "recording")
    assert [(one.header.facts["link"], one.header.facts["style"]) for one in sessions] == [
        ("direct", "fast"),
        ("direct", "gentle"),
    ]
    assert sessions[0].header.facts["bus"] == ["USB"]
    assert all(one.result is not None and "reading" in one.result.facts for one in sessions)
