"""Checks the kernel's log for what is known to break Bluetooth."""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter.doctor.check import Check, State
from exporter.doctor.files import Files
from exporter.doctor.programs import RunProgram

JOURNAL: Final = ("journalctl", "-k", "-b", "-g", "Bluetooth|hci[0-9]", "-o", "short-monotonic")
JOURNAL_S: Final = 3.0  # a journal on a slow card
BY_HAND: Final = "sudo journalctl -k -b -g Bluetooth"
LONGEST_RECORD: Final = 8192  # what the kernel asks readers of /dev/kmsg for
ABOUT_BLUETOOTH: Final = re.compile(r"bluetooth|\bhci\d|btusb|brcm/BCM|rtl_bt", re.IGNORECASE)
# "6,339,5140900,-;text", in microseconds since boot; or "[    5.140900] host kernel: text".
KMSG: Final = re.compile(r"\d+,\d+,(?P<us>\d+),[^;]*;(?P<text>.*)")
MONOTONIC: Final = re.compile(r"\[\s*(?P<s>\d+\.\d+)\](?P<text>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A message of the kernel that explains failures."""

    id: str
    regex: str
    text: str


# Sources: raspberrypi/linux issues 5460, 6141, 6462 and 6690, raspberrypi/firmware issue 1150,
# bluez issues 340 and 491, drivers/bluetooth/btusb.c.
PATTERNS: Final = (
    Pattern(id="tx_timeout", regex=r"tx timeout", text="the adapter did not answer a command"),
    Pattern(
        id="create_connection",
        regex=r"[Oo]pcode 0x200[cd] failed",
        text="the adapter refused to scan or to connect",
    ),
    Pattern(
        id="reassembly",
        regex=r"Frame reassembly failed",
        text="the adapter sent garbage over its serial line",
    ),
    Pattern(id="reset", regex=r"Reset failed", text="the adapter could not be reset"),
    Pattern(
        id="firmware",
        regex=r"(?:Direct firmware load for|download fw command) .*failed"
        r"|firmware file .*not found|failed to load (?:rtl_bt|intel|brcm)"
        r"|Reading local name failed|Patch file not found",
        text="firmware of the adapter is missing or was not loaded",
    ),
    Pattern(id="csr_clone", regex=r"Unbranded CSR clone", text="the adapter is a counterfeit CSR"),
    Pattern(id="corruption", regex=r"list_(?:del|add) corruption", text="the kernel is damaged"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """How often a message stands in the log, and when it was last written."""

    count: int
    last_s: float  # since boot


async def read_kernel_log(
    files: Files, run_program: RunProgram, timeout_s: float = JOURNAL_S
) -> Sequence[str] | None:
    """Return the lines of the log; None: this user may not read it."""
    with suppress(OSError):
        return list(_read_kmsg(files.root / "dev/kmsg"))
    printed = await run_program(JOURNAL, timeout_s)
    if printed is None or "insufficient permissions" in printed or "not seeing messages" in printed:
        return None
    return printed.splitlines()


def _read_kmsg(path: Path) -> Iterator[str]:
    """Yield what the kernel still has; each read returns one record."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                record = os.read(descriptor, LONGEST_RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:  # overwritten since the last read: the next one goes on
                continue
            if not record:
                return
            yield from record.decode(errors="replace").splitlines()
    finally:
        os.close(descriptor)


def find_patterns(lines: Iterable[str]) -> Mapping[str, Found]:
    """Return the known messages in a log, by the id of their pattern."""
    found: dict[str, Found] = {}
    for line in lines:
        record = KMSG.match(line) or MONOTONIC.match(line)
        if record is None or not ABOUT_BLUETOOTH.search(record["text"]):
            continue
        groups = record.groupdict()
        at_s = float(groups["s"]) if "s" in groups else int(groups["us"]) / 1e6
        for pattern in PATTERNS:
            if re.search(pattern.regex, record["text"]):
                count = found[pattern.id].count if pattern.id in found else 0
                found[pattern.id] = Found(count + 1, at_s)
    return found


def check_kernel_log(lines: Sequence[str] | None, now_s: float | None = None) -> Check:
    """Report the known messages; `now_s` is the time since boot."""
    if lines is None:
        text = f"not readable: {BY_HAND}"
        return Check(id="kernel_log", state=State.UNKNOWN, text=text)
    now_s = time.monotonic() if now_s is None else now_s
    found = find_patterns(lines)
    texts = [
        f"{pattern.text} ({found[pattern.id].count} times, last "
        f"{_ago(now_s - found[pattern.id].last_s)} ago)"
        for pattern in PATTERNS
        if pattern.id in found
    ]
    return Check(
        id="kernel_log",
        state=State.WARN if found else State.OK,
        text="; ".join(texts) or "no known fault",
        facts={
            name: {"count": one.count, "last_s_ago": round(max(0.0, now_s - one.last_s))}
            for name, one in found.items()
        },
        advice=f"if connections fail, send the output of {BY_HAND}" if found else None,
    )


def _ago(seconds: float) -> str:
    for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
