"""Output of the benchmarks: the machine on which they ran, and Markdown tables."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path


def machine(*packages: str) -> str:
    """Return one line with processor, cores, kernel, load, Python and versions of packages."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return (
        f"{cpu[1].strip() if cpu else platform.machine()}, {os.cpu_count()} cores, "
        f"Linux {os.uname().release.partition('-')[0]}, load {os.getloadavg()[0]:.1f}; "
        f"{platform.python_implementation()} {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
    )


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table; numbers have three digits."""
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(_cell(cell) for cell in row) + " |", flush=True)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
