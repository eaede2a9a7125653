"""Checks of the machine and its kernel."""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exporter.doctor.check import Check, State
from exporter.doctor.files import Files

POINTER_BITS: Final = 8 * struct.calcsize("P")
WIDE: Final = {"aarch64", "x86_64"}
CONTAINER_FILES: Final = {".dockerenv": "Docker", "run/.containerenv": "Podman"}
CONTAINER_GROUP: Final = re.compile(r"docker|kubepods|containerd|libpod|lxc")

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine and what runs on it."""

    model: str | None
    system: str | None  # the distribution
    container: str | None  # None: it is none
    processor: str  # aarch64 and the like
    bits: int  # of this program
    release: str  # of the kernel
    upstream: str | None = None  # the version that a distribution's kernel is made of


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFault:
    """A known fault of some kernels."""

    id: str
    since: Version
    before: Version
    text: str
    state: State = State.WARN
    model: str = ""  # a part of the model; empty: any


# Sources: bluez issues 340 and 491 (5.17 to 6.2); Home Assistant's documentation of its Bluetooth
# integration (5.15.62); Debian 12's 6.1.192 (docs/troubleshooting.md); a write-up of 14 stuck
# scans on a Pi Zero 2 W with 6.12.47 (cool-eva, "BLE adapter wedge").
FAULTS: Final[Sequence[KernelFault]] = (
    KernelFault(
        id="old",
        since=(0,),
        before=(5, 15, 62),
        text="Bluetooth Low Energy is unreliable before 5.15.62: update the system",
    ),
    KernelFault(
        id="hang_up",
        since=(6, 1, 192),
        before=(6, 1, 193),
        text="a battery that ends a connection while it is made kills the program that connects: "
        "update the kernel",
    ),
    KernelFault(
        id="create_connection",
        since=(5, 17),
        before=(6, 3),
        text="with several batteries, connecting may stop until a reboot (Opcode 0x200d failed): "
        "if it does, update the kernel",
        state=State.NOTE,
    ),
    KernelFault(
        id="discovery",
        since=(6, 12),
        before=(6, 13),
        text="a scan may stick until bluetoothctl power off and power on",
        model="Zero 2 W",
    ),
)


def read_machine(
    files: Files, uname: os.uname_result | None = None, bits: int = POINTER_BITS
) -> Machine:
    """Read what /proc, /sys and the kernel say about this machine."""
    uname = uname or os.uname()
    system = re.search(
        r'^PRETTY_NAME="?([^"\n]*)', files.text("etc/os-release") or "", re.MULTILINE
    )
    return Machine(
        model=files.text("proc/device-tree/model") or files.text("sys/class/dmi/id/product_name"),
        system=system[1] if system else None,
        container=_container(files),
        processor=uname.machine,
        bits=bits,
        release=uname.release,
        upstream=_read_upstream(files, uname.version),
    )


def _read_upstream(files: Files, version: str) -> str | None:
    """Return 6.1.192 for Debian's 6.1.0-56-amd64; None: the release says it.

    Debian has it in `uname -v`, Ubuntu in a file of its own.
    """
    signature = files.text("proc/version_signature") or ""
    found = re.search(r"Debian (\d+\.\d+\.\d+)", version) or re.search(
        r"Ubuntu \S+ (\d+\.\d+\.\d+)$", signature
    )
    return found[1] if found else None


def _container(files: Files) -> str | None:
    for path, engine in CONTAINER_FILES.items():
        if files.exists(path):
            return engine
    if name := files.text("run/systemd/container"):
        return name
    group = CONTAINER_GROUP.search(files.text("proc/1/cgroup") or "")
    return group[0] if group else None


def check_machine(machine: Machine) -> Check:
    """Describe the machine; a container and 32-bit programs on a 64-bit kernel get a note."""
    parts = [machine.model or "unknown model", machine.system or "unknown system"]
    parts.append(f"{machine.processor}, {machine.bits} bit")
    notes = []
    if machine.container:
        notes.append(
            f"in a container ({machine.container}): Bluetooth needs the host's network, or the "
            "mount /run/dbus/system_bus_socket"
        )
    if is_mixed := machine.bits == 32 and machine.processor in WIDE:  # noqa: PLR2004
        notes.append("32-bit programs on a 64-bit kernel: little tested with Bluetooth")
    return Check(
        id="machine",
        state=State.NOTE if notes else State.OK,
        text="; ".join([", ".join(parts), *notes]),
        facts={
            "model": machine.model,
            "system": machine.system,
            "container": machine.container,
            "processor": machine.processor,
            "bits": machine.bits,
            "mixed_bits": is_mixed,
        },
    )


def check_kernel(machine: Machine) -> Check:
    """Compare the kernel with the table of known faults, which are warnings, never refusals."""
    version = kernel_version(machine.upstream or machine.release)
    faults = [
        fault
        for fault in FAULTS
        if fault.since <= version < fault.before and fault.model in (machine.model or "")
    ]
    named = machine.release + f" ({machine.upstream})" * bool(machine.upstream)
    states = {fault.state for fault in faults}
    return Check(
        id="kernel",
        state=max(states, key=[State.NOTE, State.WARN].index, default=State.OK),
        text=": ".join([named, *["; ".join(fault.text for fault in faults)] * bool(faults)]),
        facts={
            "release": machine.release,
            "upstream": machine.upstream,
            "faults": [fault.id for fault in faults],
        },
    )


def kernel_version(release: str) -> Version:
    """Return the numbers at the start of a release like 6.12.47+rpt-rpi-v8."""
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else ()
