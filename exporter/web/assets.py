"""The files of the page, read from the package once and served unchanged."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page; `etag` has its quotes."""

    body: bytes
    content_type: str
    etag: str


def assets() -> dict[str, Asset]:
    """Return every file of the page by its path below /page/; other kinds of files are left out."""
    return dict(_walk(Path(__file__).with_name("page"), ""))


def _walk(folder: Path, prefix: str) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif (kind := TYPES.get("." + entry.name.rpartition(".")[2])) is not None:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found.append((prefix + entry.name, Asset(body, kind, etag)))
    return found
