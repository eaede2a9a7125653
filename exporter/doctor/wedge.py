"""Checks whether an adapter or the kernel is stuck, from what is seen while batteries are read."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import Adapter
from exporter.doctor.check import Check, Fact, State
from exporter.doctor.listen import Listening
from exporter.doctor.report import Report
from exporter.errors import BmsError, Cause

RESTART: Final = "run bluetoothctl power off, then bluetoothctl power on"


def check_scan(listening: Listening, *, discovering: bool) -> Check | None:
    """Return a failure if the kernel's discovery is stuck: then nothing connects any more."""
    if listening.error is None or listening.error.cause is not Cause.WEDGE or discovering:
        return None
    return Check(
        id="wedge",
        state=State.FAIL,
        text="the kernel takes a scan for running that nobody runs: nothing connects any more",
        facts={"stuck": "discovery"},
        advice=RESTART,
    )


@asynccontextmanager
async def wedge_checked(kernel: Kernel, report: Report) -> AsyncIterator[list[BmsError]]:
    """Report an adapter that took commands and answered none, or an error added to the list."""
    before = _counters(kernel)
    errors: list[BmsError] = []
    yield errors
    after = _counters(kernel)
    for name, one in after.items():
        sent = one.commands_sent - before[name].commands_sent if name in before else 0
        if sent > 0 and one.events_received == before[name].events_received:
            report.add(
                Check(
                    id="wedge",
                    subject=name,
                    state=State.FAIL,
                    text=f"{name} does not answer any more ({sent} commands, no event)",
                    facts={"stuck": "adapter", "commands": sent},
                    advice=f"{RESTART}, or plug it in again",
                )
            )
            return
    for error in errors[:1]:
        facts: Mapping[str, Fact] = {"stuck": "connection"}
        report.add(Check(id="wedge", state=State.FAIL, text=str(error), facts=facts))


def _counters(kernel: Kernel) -> dict[str, Adapter]:
    try:
        return {one.name: one for one in kernel.adapters()}
    except OSError:
        return {}
