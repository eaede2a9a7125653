"""Snapshots as Prometheus text, rendered no more often than they change."""

import asyncio
import re
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from exporter.battery.snapshot import Snapshot
from exporter.metrics import (
    KNOWN_ROWS,
    PROCESS,
    SERVED_ROWS,
    BatteryCollector,
    ExporterCollector,
    registry_of,
)

GZIP: Final = re.compile(r"(?:^|,)\s*gzip\s*(?P<refused>;\s*q=0(\.0*)?\s*)?(?:[;,]|$)")
GZIP_LEVEL: Final = 3  # 9 takes five times as long for a tenth less
# zlib's wbits and memLevel: a quarter of the memory of its own, 64 KiB, for the same size.
GZIP_FORMAT: Final = 16 + 13
GZIP_MEMORY: Final = 6
EOF: Final = b"# EOF\n"  # of OpenMetrics
SAMPLE_NAME: Final = re.compile(rb"[^{ ]+")

Rendered = tuple[dict[str, str], Sequence[bytes]]
"""Headers, and the parts of the body; the larger ones are shared by all responses."""

Encode = Callable[[Collector], bytes]

VERSIONS: Final = ("0.0.4", "1.0.0")
ESCAPINGS: Final = ("allow-utf-8", "underscores", "dots", "values")
FORMATS: Final = {
    content_type: encode
    for accept in (
        "",
        "application/openmetrics-text",
        *(
            f"{kind};version={version};escaping={escaping}"
            for kind in ("text/plain", "application/openmetrics-text")
            for version in VERSIONS
            for escaping in ESCAPINGS
        ),
    )
    for encode, content_type in (choose_encoder(accept),)
}
"""How to encode each content type. A client may invent versions; none of them is rendered."""


class Query(NamedTuple):
    """The parameters of a rendering, beside the snapshots."""

    content_type: str
    own: bool  # with the exporter's own metrics


class Exposition:
    """Renders no more than has changed, and once for all scrapes of one turn of the event loop.

    A thousand scrapes that waited for one poll cost one rendering, and a client that scrapes
    faster than the exporter can render does not keep others waiting.
    """

    def __init__(self, own: ExporterCollector | None, bound: Callable[[], int]) -> None:
        """Start with nothing rendered.

        Args:
            own: The exporter's own metrics.
            bound: Returns how many renderings to remember; the most recently used ones stay.
        """
        self._own = own
        self._bound = bound
        self._rendered: dict[Hashable, Rendered] = {}
        self._known: dict[Hashable, Known] = {}

    def response(
        self, headers: Mapping[str, str], query: str, snapshots: Sequence[Snapshot], *, own: bool
    ) -> Rendered:
        """Return headers and body that show these snapshots.

        Args:
            headers: The request's.
            query: The request's, undecoded; `name[]` chooses metrics.
            snapshots: What to show.
            own: Whether to add the exporter's own metrics.
        """
        names = frozenset(name.encode() for name in parse_qs(query).get("name[]", ()))
        asked = Query(_content_type(headers.get("Accept", "")), own)
        gzipped = _takes_gzip(headers.get("Accept-Encoding", ""))
        key = asked, names, tuple((s.battery, s.revision) for s in snapshots), gzipped
        if key not in self._rendered:
            self._rendered[key] = self._render(asked, snapshots, names, gzipped=gzipped)
            asyncio.get_running_loop().call_soon(self._rendered.pop, key)
        return self._rendered[key]

    def _render(
        self,
        asked: Query,
        snapshots: Sequence[Snapshot],
        names: frozenset[bytes],
        *,
        gzipped: bool,
    ) -> Rendered:
        served = BatteryCollector(snapshots, SERVED_ROWS, with_info=False)
        fresh = _exposed(asked, served, *([PROCESS] if asked.own else ()))
        known = self._known_of(asked, snapshots)
        if names:
            fresh = only(names, fresh)
            known = Known(known.revision, only(names, known.text))
        headers = {"Content-Type": asked.content_type, "Vary": "Accept, Accept-Encoding"}
        if gzipped:
            return headers | {"Content-Encoding": "gzip"}, known.packed.followed_by(fresh)
        return headers, (known.text, fresh)

    def _known_of(self, asked: Query, snapshots: Sequence[Snapshot]) -> "Known":
        """Return the text that seldom changes; only the newest of each query is remembered."""
        key = asked, tuple(snapshot.battery for snapshot in snapshots)
        own = self._own if asked.own else None
        revision = own and own.revision, tuple(snapshot.revision for snapshot in snapshots)
        known = self._known.pop(key, None)
        if known is None or known.revision != revision:
            batteries = BatteryCollector(snapshots, KNOWN_ROWS)
            text = _exposed(asked, batteries, *([own] if own else ()))
            known = Known(revision, text.removesuffix(EOF))
        self._known[key] = known  # the last one is the newest
        while len(self._known) > self._bound():
            del self._known[next(iter(self._known))]
        return known


class Known:
    """Cached exposition text of one set of snapshots."""

    def __init__(self, revision: Hashable, text: bytes) -> None:
        self.revision = revision
        self.text = text

    @cached_property
    def packed(self) -> "Packed":
        """The compressed text, made for the first client that accepts gzip."""
        return Packed(self.text)


class Packed:
    """The beginning of a gzip stream that can be continued more than once."""

    def __init__(self, text: bytes) -> None:
        self._packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FORMAT, memLevel=GZIP_MEMORY)
        self._packed = self._packer.compress(text)

    def followed_by(self, text: bytes) -> tuple[bytes, bytes]:
        """Return the whole stream with this text at its end, in two parts."""
        packer = self._packer.copy()
        return self._packed, packer.compress(text) + packer.flush()


def only(names: frozenset[bytes], text: bytes) -> bytes:
    """Return the samples with these names, below the comments of their families.

    Cheaper than to render again: a client may ask for other names with every request.
    """
    kept: list[bytes] = []
    comments: list[bytes] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(b"# HELP "):
            comments = [line]
        elif line.startswith(b"#"):
            comments.append(line)
        elif SAMPLE_NAME.match(line)[0] in names:  # type: ignore[index] # a sample has a name
            kept += [*comments, line]
            comments = []
    return b"".join([*kept, EOF] if text.endswith(EOF) else kept)


def _exposed(asked: Query, *collectors: Collector) -> bytes:
    return FORMATS[asked.content_type](registry_of(*collectors))


def _content_type(accept: str) -> str:
    """Return the format that a client prefers."""
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # prometheus_client fails on malformed headers
        content_type = ""
    return content_type if content_type in FORMATS else next(iter(FORMATS))


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether a client accepts gzip; gzip;q=0 says that it does not."""
    found = GZIP.search(accept_encoding.lower())
    return found is not None and found["refused"] is None
