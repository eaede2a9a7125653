"""Runs all checks: of the machine first, then of each battery."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from exporter.config.schema import AdapterName, BatteryConfig, PollConfig, TransportChoice
from exporter.doctor.adapters import AdapterFacts
from exporter.doctor.attempt import BLUEZ, DIRECT, GENTLE, Recording
from exporter.doctor.batteries import Examination, examine, found_batteries, listen_to
from exporter.doctor.check import State
from exporter.doctor.configuration import Configured, choose_batteries, read_configuration
from exporter.doctor.facts import MachineFacts, Sources, check_all, read_facts
from exporter.doctor.means import Means
from exporter.doctor.proxies import check_proxies, choose_proxied, excuse, note_proxied
from exporter.doctor.redaction import Redaction
from exporter.doctor.report import Report
from exporter.doctor.running_exporter import ReleaseError, RunningExporter
from exporter.doctor.verdict import check_nothing_found
from exporter.doctor.wedge import check_scan
from exporter.process import on_signals
from exporter.recording.lines import Write

OK: Final = 0
FAILED: Final = 1
BOTH: Final = "both"
ONLY_PROXIES: Final = "batteries are read through proxies only: bms-exporter read tries them"
ROUTES: Final = {  # by --link
    "direct": (DIRECT, GENTLE),
    "bluez": (BLUEZ,),
    BOTH: (DIRECT, GENTLE, BLUEZ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the user asked for."""

    config_file: Path
    batteries: Sequence[str] = ()  # names and addresses
    quick: bool = False
    link: str | None = None  # direct, bluez or both; None: gentle only if direct fails
    exporter_url: str
    record: Write | None = None  # takes the lines of a recording


async def run(plan: Plan, sources: Sources, report: Report) -> int:
    """Run all checks; return 0 if all is well, 1 if something fails or a battery is not read.

    Raises:
        ConfigError: A battery is neither configured nor an address.
    """
    configured = read_configuration(plan.config_file)
    batteries = _with_link(choose_batteries(configured, plan.batteries), plan.link)
    report.redaction.know(battery.address for battery in batteries)
    doctor = _Doctor(
        plan=plan,
        sources=sources,
        report=report,
        configured=configured,
        batteries=batteries,
        exporter=RunningExporter(plan.exporter_url),
    )
    task = asyncio.current_task()

    def stop() -> None:
        if task is not None:
            task.cancel()

    with on_signals(stop, signal.SIGTERM):
        try:
            return await doctor.run()
        finally:
            for name in await doctor.exporter.resume():
                shown = report.redaction.own_name(name)
                report.write(f"{shown}: the exporter did not resume it; it will in ten minutes")


@dataclass(slots=True, kw_only=True)
class _Doctor:
    plan: Plan
    sources: Sources
    report: Report
    configured: Configured
    batteries: Sequence[BatteryConfig]
    exporter: RunningExporter

    async def run(self) -> int:
        report = self.report
        report.wait("looking for a running exporter")
        await self.exporter.find(is_quick=self.plan.quick)
        if not self.plan.quick:
            await self._release()
        report.wait("looking at this machine")
        facts = await read_facts(self.sources, is_quick=self.plan.quick)
        has_adapter = bool(facts.adapters or facts.bluetoothd.adapters)
        proxied = choose_proxied(self.batteries, self.configured, has_adapter=has_adapter)
        is_all_proxied = bool(proxied) and len(proxied) == len(self.batteries)
        checks = check_all(facts, self.configured, self.batteries, self.exporter)
        for check in excuse(checks) if is_all_proxied else checks:
            report.add(check)
        if self.plan.quick:
            is_well = not self._has_failed
            summary = "the machine looks well" if is_well else "a check of this machine failed"
        else:
            for check in await check_proxies(self.configured):
                report.add(check)
            read = await self._examine(facts, proxied)
            for check in note_proxied(proxied):
                report.add(check)
            is_known = bool(read or proxied)
            is_well = is_known and all(read.values()) and not self._has_failed
            summary = ONLY_PROXIES if is_all_proxied else _summary(read, report.redaction)
        report.conclude(summary, is_well=is_well)
        return OK if is_well else FAILED

    @property
    def _has_failed(self) -> bool:
        return any(check.state is State.FAIL for check in self.report.checks)

    async def _release(self) -> None:
        for battery in self.batteries:
            self.report.wait(f"asking the exporter to leave {battery.name} alone")
            with suppress(ReleaseError):  # reported when it is the battery's turn
                await self.exporter.release(battery.address)

    async def _examine(
        self, facts: MachineFacts, proxied: Sequence[BatteryConfig]
    ) -> dict[str, bool]:
        """Examine all batteries except `proxied`; return whether each was read, by name."""
        config = self.configured.config
        examined = Examination(
            means=plan_means(self.plan, self.sources, facts),
            others=facts.others,
            exporter=self.exporter,
            report=self.report,
            timeout_s=(PollConfig() if config is None else config.poll).timeout_s,
            link=TransportChoice.AUTO if config is None else config.link,
            resolve=partial(resolve, facts.adapters),
            recording=self.plan.record and Recording(write=self.plan.record, facts=describe(facts)),
        )
        batteries = [one for one in self.batteries if one not in proxied]
        listening = await listen_to(examined, batteries)
        if stuck := check_scan(listening, discovering=examined.means.discovering):
            self.report.add(stuck)
        if not self.batteries and not self.configured.problems:
            batteries = _with_link(found_batteries(listening), self.plan.link)
            self.report.redaction.know(battery.address for battery in batteries)
            if not batteries:
                self.report.add(check_nothing_found(listening, scans=examined.means.scans))
        return {battery.name: await examine(examined, battery, listening) for battery in batteries}


def describe(facts: MachineFacts) -> dict[str, Any]:
    """Return what a recording says of the machine; each list has a value for each adapter."""
    chips = [one.controller for one in facts.adapters]
    return {
        "bus": [one.bus for one in facts.adapters],
        "manufacturer": [chip and chip.maker for chip in chips],
        "bt": [chip and chip.version for chip in chips],
        "bluez": facts.bluetoothd.version,
    }


def _with_link(batteries: Sequence[BatteryConfig], link: str | None) -> list[BatteryConfig]:
    """Return the batteries as if they were configured with the link that was asked for."""
    if link in {None, BOTH}:
        return list(batteries)
    return [replace(battery, link=TransportChoice(link)) for battery in batteries]


def _summary(read: dict[str, bool], redaction: Redaction) -> str:
    missing = [redaction.own_name(name) for name, was_read in read.items() if not was_read]
    if not read:
        return "no battery was read"
    return f"not read: {', '.join(missing)}" if missing else "all batteries answer"


def plan_means(plan: Plan, sources: Sources, facts: MachineFacts) -> Means:
    """Return what can be used to reach batteries, and was asked for."""
    up = [one for one in facts.adapters if one.is_usable]
    daemon = facts.bluetoothd
    is_virtual = sources.backend is not None
    scans = is_virtual or (
        daemon.problem is None and daemon.has_adapter_on and bool(up or not facts.adapters)
    )
    possible = {BLUEZ} if scans else set()
    if facts.rights.has_sockets and up and not is_virtual:
        possible |= {DIRECT, GENTLE}
    return Means(
        routes=[route for route in ROUTES[plan.link or BOTH] if route in possible],
        tries_gentle=plan.link == BOTH,
        adapters=[one.name for one in up],
        kernel=sources.kernel,
        backend=sources.backend,
        scans=scans,
        discovering=any(one.get("Discovering") for one in daemon.adapters.values()),
    )


def resolve(adapters: Sequence[AdapterFacts], adapter: str) -> AdapterName | None:
    """Return the name of an adapter that is given by name or address; None: it is not there."""
    for one in adapters:
        if adapter in {one.name, one.address}:
            return AdapterName(one.name)
    return None if adapters else AdapterName(adapter)
