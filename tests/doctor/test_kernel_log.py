"""What the kernel's log tells about Bluetooth."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from exporter.doctor.check import State
from exporter.doctor.files import Files
from exporter.doctor.kernel_log import check_kernel_log, find_patterns, read_kernel_log

KMSG = """\
6,339,5140900,-;Bluetooth: hci0: BCM: chip id 94
 SUBSYSTEM=bluetooth
3,900,300000000,-;Bluetooth: hci0: command 0x200c tx timeout
3,901,310000000,-;Bluetooth: hci0: Opcode 0x200c failed: -110
3,902,360000000,-;Bluetooth: hci0: command 0x200c tx timeout
3,903,361000000,-;usb 1-1: device descriptor read/64, tx timeout
"""
JOURNAL = """\
[    5.140900] camper kernel: Bluetooth: hci0: Frame reassembly failed (-84)
[    9.000000] camper kernel: Bluetooth: hci0: RTL: download fw command failed (-110)
"""


async def nothing(_arguments: Sequence[str], _timeout_s: float) -> str | None:
    return None


@pytest.mark.looptime(False)  # noqa: FBT003 - it reads a file
async def test_kernels_buffer_is_read_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kmsg").write_text(KMSG)

    lines = await read_kernel_log(Files(tmp_path), nothing)

    assert lines == KMSG.splitlines()


async def test_journal_is_read_where_the_buffer_may_not_be(tmp_path: Path) -> None:
    async def journalctl(arguments: Sequence[str], _timeout_s: float) -> str | None:
        assert arguments[0] == "journalctl"
        return JOURNAL

    assert await read_kernel_log(Files(tmp_path), journalctl) == JOURNAL.splitlines()


@pytest.mark.parametrize(
    "printed",
    [
        None,
        "Hint: You are currently not seeing messages from other users and the system.\n",
        "No journal files were opened due to insufficient permissions.\n",
    ],
)
async def test_log_that_may_not_be_read_is_unknown_with_the_command_to_run(
    printed: str | None, tmp_path: Path
) -> None:
    async def journalctl(_arguments: Sequence[str], _timeout_s: float) -> str | None:
        return printed

    check = check_kernel_log(await read_kernel_log(Files(tmp_path), journalctl))

    assert check.state is State.UNKNOWN
    assert "sudo journalctl -k -b -g Bluetooth" in check.text


def test_known_messages_are_counted_with_their_last_time() -> None:
    check = check_kernel_log(KMSG.splitlines(), now_s=3960.0)

    assert check.state is State.WARN
    assert check.text == (
        "the adapter did not answer a command (2 times, last 60 minutes ago); "
        "the adapter refused to scan or to connect (1 times, last 61 minutes ago)"
    )
    assert check.facts == {
        "tx_timeout": {"count": 2, "last_s_ago": 3600},
        "create_connection": {"count": 1, "last_s_ago": 3650},
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bluetooth: hci0: Opcode 0x200d failed: -16", "create_connection"),
        ("Bluetooth: hci0: Frame reassembly failed (-84)", "reassembly"),
        ("Bluetooth: hci0: Reset failed (-110)", "reset"),
        ("Bluetooth: hci0: BCM: Reset failed (-110)", "reset"),
        ("bluetooth hci0: Direct firmware load for brcm/BCM.hcd failed with error -2", "firmware"),
        ("Bluetooth: hci0: RTL: download fw command failed (-110)", "firmware"),
        ("Bluetooth: hci0: BCM: firmware Patch file not found, tried:", "firmware"),
        ("Bluetooth: hci0: BCM: Reading local name failed (-110)", "firmware"),
        ("Bluetooth: hci0: CSR: Unbranded CSR clone detected; adding workarounds", "csr_clone"),
        ("hci0: list_del corruption, next is null", "corruption"),
    ],
)
def test_message_of_the_kernel_is_recognised(text: str, name: str) -> None:
    assert list(find_patterns([f"3,900,300000000,-;{text}"])) == [name]


def test_quiet_log_is_well() -> None:
    assert check_kernel_log(["6,339,5140900,-;Bluetooth: Core ver 2.22"]).state is State.OK
    assert check_kernel_log([]).state is State.OK
