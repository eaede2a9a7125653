"""Reads all facts about the machine, and puts the checks of them in order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from exporter.ble.direct import management
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.management import Command
from exporter.ble.transport import Backend
from exporter.config.schema import BatteryConfig, TransportChoice
from exporter.doctor.adapter_checks import (
    check_adapter,
    check_presence,
    check_rfkill,
    check_settings,
)
from exporter.doctor.adapters import AdapterFacts, read_adapters
from exporter.doctor.bluetoothd import ANSWER_S, Bluetoothd, check_bluetoothd, read_bluetoothd
from exporter.doctor.check import Check, State
from exporter.doctor.chips import check_chip, check_power
from exporter.doctor.configuration import Configured, check_configuration
from exporter.doctor.files import Files
from exporter.doctor.kernel_log import JOURNAL_S, check_kernel_log, read_kernel_log
from exporter.doctor.machine import Machine, check_kernel, check_machine, read_machine
from exporter.doctor.others import Others, check_others, read_others
from exporter.doctor.programs import RunProgram, run_program
from exporter.doctor.rights import Rights, check_rights, check_sockets, read_rights
from exporter.doctor.running_exporter import RunningExporter, check_exporter
from exporter.doctor.wifi import Wifi, check_wifi, read_wifi

QUICK_S: Final = 0.5  # for the journal and for bluetoothd, with --quick


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the facts come from; tests replace them."""

    files: Files = field(default_factory=Files)
    kernel: Kernel = field(default_factory=Kernel)
    command: Command = management.command
    run_program: RunProgram = run_program
    read_rights: Callable[[Files], Rights] = read_rights
    read_bluetoothd: Callable[[Files, RunProgram, float], Awaitable[Bluetoothd]] = read_bluetoothd
    backend: Backend | None = None  # instead of bluetoothd and the kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """Everything that is read without radio."""

    machine: Machine
    rights: Rights
    why_not_managed: str | None
    adapters: Sequence[AdapterFacts]
    adapters_in_sys: Sequence[str]  # also where this program has no Bluetooth sockets
    wifi: Wifi
    kernel_log: Sequence[str] | None
    bluetoothd: Bluetoothd
    others: Others


async def read_facts(sources: Sources, *, is_quick: bool = False) -> MachineFacts:
    """Read everything about the machine; what is slow at the same time."""
    files = sources.files
    rights = sources.read_rights(files)
    adapters: Sequence[AdapterFacts] = []
    why_not_managed: str | None = "no Bluetooth sockets"
    log, daemon = await asyncio.gather(
        read_kernel_log(files, sources.run_program, QUICK_S if is_quick else JOURNAL_S),
        sources.read_bluetoothd(files, sources.run_program, QUICK_S if is_quick else ANSWER_S),
    )
    if rights.has_sockets:
        why_not_managed = await management.why_not(sources.command)
        adapters = await read_adapters(files, sources.kernel, sources.command)
    return MachineFacts(
        machine=read_machine(files),
        rights=rights,
        why_not_managed=why_not_managed,
        adapters=adapters,
        adapters_in_sys=[
            path.rpartition("/")[2] for path in files.matching("sys/class/bluetooth/hci*[0-9]")
        ],
        wifi=read_wifi(files),
        kernel_log=log,
        bluetoothd=daemon,
        others=read_others(files, sources.kernel, daemon),
    )


def links_of(configured: Configured, batteries: Sequence[BatteryConfig]) -> set[TransportChoice]:
    """Return the values of `link` that the batteries have."""
    default = TransportChoice.AUTO if configured.config is None else configured.config.link
    return {battery.transport or default for battery in batteries} or {default}


def check_all(
    facts: MachineFacts,
    configured: Configured,
    batteries: Sequence[BatteryConfig],
    exporter: RunningExporter,
) -> list[Check]:
    """Return all checks of the machine, in the order in which they are shown."""
    rights, links = facts.rights, links_of(configured, batteries)
    needs_direct = links == {TransportChoice.DIRECT}
    needs_bluetoothd = (
        TransportChoice.BLUEZ in links
        or not (rights.has_sockets or needs_direct)
        or is_off_without_bluetoothd(facts)
    )
    in_container = facts.machine.container is not None
    # Without bluetoothd the sockets are the only way, unless every battery is set to bluez.
    is_only_way = facts.bluetoothd.problem is not None and links != {TransportChoice.BLUEZ}
    has_onboard_adapter = any(one.bus == "UART" for one in facts.adapters)
    return [
        check_machine(facts.machine),
        check_kernel(facts.machine),
        check_sockets(rights, is_needed=needs_direct or is_only_way, in_container=in_container),
        *_check_adapters(facts),
        check_wifi(facts.wifi, has_onboard_adapter=has_onboard_adapter),
        check_kernel_log(facts.kernel_log),
        check_bluetoothd(
            facts.bluetoothd,
            is_needed=needs_bluetoothd,
            is_used=links != {TransportChoice.DIRECT},
            in_container=in_container,
        ),
        check_rights(rights, facts.why_not_managed),
        check_others(
            facts.others,
            {one.address: one.name for one in batteries},
            exporter.names,
        ),
        check_configuration(configured, facts.adapters),
        check_exporter(exporter, [battery.address for battery in batteries]),
    ]


def is_off_without_bluetoothd(facts: MachineFacts) -> bool:
    """Return whether no adapter is on because bluetoothd, which switches them on, does not run."""
    is_stopped = facts.bluetoothd.problem in {"not_running", "no_bus"}
    return is_stopped and bool(facts.adapters) and not any(one.is_up for one in facts.adapters)


def _check_adapters(facts: MachineFacts) -> list[Check]:
    if not facts.rights.has_sockets:
        return [_check_adapters_elsewhere(facts.bluetoothd, facts.adapters_in_sys)]
    checks = [check_presence(facts.adapters)]
    if facts.adapters:
        checks.insert(0, check_rfkill(facts.adapters))
    for one in facts.adapters:
        checks += [check_adapter(one), check_chip(one), check_settings(one)]
        checks += [check_power(one)] if one.usb_id else []
    return checks


def _check_adapters_elsewhere(daemon: Bluetoothd, in_sys: Sequence[str]) -> Check:
    """Check the adapters where this program has no Bluetooth sockets."""
    on = [name for name, one in daemon.adapters.items() if one.get("Powered")]
    facts = {"count": len(daemon.adapters) or len(in_sys), "powered": len(on)}
    if on:
        text = f"{', '.join(on)}, through bluetoothd"
        return Check(id="adapters", state=State.OK, text=text, facts=facts)
    if daemon.adapters:
        return Check(
            id="adapters",
            state=State.FAIL,
            text=f"{', '.join(daemon.adapters)} is switched off",
            facts=facts,
            advice="run bluetoothctl power on, or rfkill unblock bluetooth",
        )
    if in_sys:
        text = f"{', '.join(in_sys)} is there, but this program cannot use it"
        return Check(id="adapters", state=State.NOTE, text=text, facts=facts)
    if daemon.problem is not None:
        text = "cannot be seen without Bluetooth sockets and bluetoothd"
        return Check(id="adapters", state=State.UNKNOWN, text=text, facts=facts)
    return check_presence([])
