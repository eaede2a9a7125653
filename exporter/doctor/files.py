"""Reads files of the kernel and the system below a root, which tests replace."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LONGEST: Final = 1 << 20  # no file that is read here is longer; /proc and /sys have no sizes


@dataclass(frozen=True, slots=True)
class Files:
    """The files below `root`; all paths are relative to it."""

    root: Path = Path("/")

    def text(self, path: str) -> str | None:
        """Return the content without white space around it; None: there is none to read."""
        try:
            with (self.root / path).open("rb") as file:
                raw = file.read(LONGEST)
        except OSError:
            return None
        # The device tree ends its texts with a null byte; so do arguments in /proc.
        return raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace").strip()

    def exists(self, path: str) -> bool:
        """Return whether there is such a file, readable or not."""
        try:
            return (self.root / path).exists()
        except OSError:
            return False

    def matching(self, pattern: str) -> Sequence[str]:
        """Return the sorted paths that match a glob pattern."""
        try:
            return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))
        except OSError:
            return []

    def target(self, path: str) -> str | None:
        """Return the last part of what a link points to; None: it is no link."""
        try:
            return (self.root / path).readlink().name
        except OSError:
            return None

    def real(self, path: str) -> str:
        """Return a path with its links resolved."""
        real = os.path.realpath(self.root / path)
        return os.path.relpath(real, os.path.realpath(self.root))
