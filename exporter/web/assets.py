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
    """Return the files of the page by path below /page/; types not in TYPES are left out."""
    folder = Path(__file__).with_name("page")
    found = {}
    for path in folder.rglob("*"):
        if (content_type := TYPES.get(path.suffix)) is not None:
            body = path.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found[str(path.relative_to(folder))] = Asset(body, content_type, etag)
    return found
