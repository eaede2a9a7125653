"""What the first line of a recording says about the machine, as far as any user may read it."""

import platform
import re
from pathlib import Path
from typing import Any, Final

CAPABILITIES: Final = {"net_admin": 1 << 12, "net_raw": 1 << 13}
# Only texts of these forms are recorded: none of them can hold an address, a name or a path.
DRIVER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
USB_ID: Final = re.compile(r"[0-9a-f]{4}")
COMPATIBLE: Final = re.compile(r"[a-z]+,[A-Za-z0-9-]{1,32}")


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Return capabilities and adapters; adapters may come and go while the exporter runs."""
    return {
        "python": platform.python_version(),
        "caps": _read_capabilities(root),
        "adapters": [
            _describe_adapter(adapter)
            for adapter in sorted((root / "sys/class/bluetooth").glob("hci[0-9]*"))
            if adapter.name[3:].isdigit()  # hci0:64 is a connection
        ],
    }


def _read_capabilities(root: Path) -> list[str] | None:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _read(root / "proc/self/status"), re.MULTILINE)
    if found is None:
        return None
    bits = int(found[1], 16)
    return [name for name, bit in CAPABILITIES.items() if bits & bit]


def _describe_adapter(adapter: Path) -> dict[str, Any]:
    device = adapter / "device"
    usb = [_match(USB_ID, _read(device / f"../{name}")) for name in ("idVendor", "idProduct")]
    facts = {
        "name": adapter.name,
        "bus": _match(DRIVER, _target(device / "subsystem")),
        "driver": _match(DRIVER, _target(device / "driver")),
        "usb": ":".join(one for one in usb if one) if all(usb) else None,
        "chip": _match(COMPATIBLE, _read(device / "of_node/compatible").partition("\0")[0]),
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _match(form: re.Pattern[str], text: str) -> str | None:
    return text if form.fullmatch(text) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _target(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return ""
