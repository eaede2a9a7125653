"""The model, the distribution, containers, and the table of kernels."""

from pathlib import Path

import pytest

from exporter.doctor.check import Check, State
from exporter.doctor.machine import check_kernel, check_machine, kernel_version, read_machine
from tests.support.machines import (
    CONTAINER,
    CSR_CLONE,
    LAPTOP,
    PI_4,
    PI_4_32_BIT,
    PI_5,
    PI_ZERO_2W,
    FakeMachine,
)


def checks(machine: FakeMachine, folder: Path) -> tuple[Check, Check]:
    facts = read_machine(machine.write(folder), machine.uname, machine.bits)
    return check_machine(facts), check_kernel(facts)


def test_raspberry_pi_is_named_by_its_device_tree(tmp_path: Path) -> None:
    machine, _ = checks(PI_5, tmp_path)

    assert machine.state is State.OK
    assert machine.text == (
        "Raspberry Pi 5 Model B Rev 1.0, Debian GNU/Linux 12 (bookworm), aarch64, 64 bit"
    )


def test_computer_is_named_by_its_firmware(tmp_path: Path) -> None:
    machine, _ = checks(LAPTOP, tmp_path)

    assert machine.text.startswith("ThinkPad X280, Debian GNU/Linux 13 (trixie), x86_64")


def test_container_gets_a_note_with_what_bluetooth_needs(tmp_path: Path) -> None:
    machine, _ = checks(CONTAINER, tmp_path)

    assert machine.state is State.NOTE
    assert machine.facts["container"] == "Docker"
    assert "the host's network" in machine.text


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("run/.containerenv", "", "Podman"),
        ("run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n", "kubepods"),
        ("proc/1/cgroup", "0::/init.scope\n", None),
    ],
)
def test_kind_of_container_is_recognised(
    path: str, text: str, name: str | None, tmp_path: Path
) -> None:
    machine, _ = checks(FakeMachine(files={path: text}), tmp_path)

    assert machine.facts["container"] == name


def test_32_bit_programs_on_a_64_bit_kernel_get_a_note(tmp_path: Path) -> None:
    machine, _ = checks(PI_4_32_BIT, tmp_path)

    assert machine.state is State.NOTE
    assert "32-bit programs on a 64-bit kernel" in machine.text


def test_machine_without_any_file_is_described(tmp_path: Path) -> None:
    machine, _ = checks(FakeMachine(), tmp_path)

    assert machine.text == "unknown model, unknown system, aarch64, 64 bit"


@pytest.mark.parametrize(
    ("machine", "faults"),
    [
        (PI_ZERO_2W, ["discovery"]),
        (PI_4, ["create_connection"]),
        (LAPTOP, []),
        (CSR_CLONE, []),
        (FakeMachine(release="5.10.0-28-amd64"), ["old"]),
        (FakeMachine(release="5.15.61"), ["old"]),
        (FakeMachine(release="5.15.62"), []),
        (FakeMachine(release="6.1.192"), ["hang_up", "create_connection"]),
        (FakeMachine(release="6.3.0"), []),
        (FakeMachine(release="unknown"), []),
    ],
)
def test_kernel_with_a_known_fault_gets_a_warning(
    machine: FakeMachine, faults: list[str], tmp_path: Path
) -> None:
    _, kernel = checks(machine, tmp_path)

    assert kernel.facts["faults"] == faults
    assert kernel.state is (
        State.OK if not faults else State.NOTE if faults == ["create_connection"] else State.WARN
    )
    assert kernel.text.startswith(machine.release)


@pytest.mark.parametrize(
    ("release", "version", "signature", "upstream"),
    [
        (
            "6.1.0-56-amd64",
            "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-09-01)",
            "",
            "6.1.192",
        ),
        (
            "5.15.0-91-generic",
            "#101-Ubuntu SMP",
            "Ubuntu 5.15.0-91.101-generic 5.15.131\n",
            "5.15.131",
        ),
        ("6.6.51+rpt-rpi-2712", "#1 SMP PREEMPT Debian 1:6.6.51-1+rpt3 (2024-10-08)", "", None),
    ],
)
def test_version_that_a_distributions_release_hides_counts(
    release: str, version: str, signature: str, upstream: str | None, tmp_path: Path
) -> None:
    machine = FakeMachine(
        files={"proc/version_signature": signature}, release=release, version=version
    )

    _, kernel = checks(machine, tmp_path)

    assert kernel.facts["upstream"] == upstream
    assert kernel.facts["faults"] == (
        ["hang_up", "create_connection"] if upstream == "6.1.192" else []
    )


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.12.47+rpt-rpi-v8", (6, 12, 47)), ("6.6-rc1", (6, 6, 0)), ("next", ())],
)
def test_version_is_the_start_of_a_release(release: str, version: tuple[int, ...]) -> None:
    assert kernel_version(release) == version
