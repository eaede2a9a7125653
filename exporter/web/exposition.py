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

from exporter.metrics import (
    KNOWN_ROWS,
    PROCESS,
    SERVED_ROWS,
    BatteryCollector,
    ExporterCollector,
    registry_of,
)
from exporter.poller import Snapshot

GZIP: Final = re.compile(r"(?:^|,)\s*gzip\s*(?P<refused>;\s*q=0(\.0*)?\s*)?(?:[;,]|$)")
GZIP_LEVEL: Final = 3  # 9 takes five times as long for a tenth less
# zlib's wbits and memLevel: a quarter of the memory of its own, 64 KiB, for the same size.
GZIP_FORMAT: Final = 16 + 13
GZIP_MEMORY: Final = 6


class Query(NamedTuple):
    """What decides about the text of a response, beside the snapshots."""

    accept: str  # the header with the wanted formats
    names: tuple[str, ...] | None  # the metrics wanted; None: all
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
        self._rendered: dict[Hashable, tuple[dict[str, str], bytes]] = {}
        self._known: dict[Hashable, Known] = {}

    def response(
        self, headers: Mapping[str, str], query: str, snapshots: Sequence[Snapshot], *, own: bool
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body that show these snapshots.

        Args:
            headers: The request's.
            query: The request's, undecoded; `name[]` chooses metrics.
            snapshots: What to show.
            own: Whether to add the exporter's own metrics.
        """
        names = parse_qs(query).get("name[]")
        asked = Query(headers.get("Accept", ""), None if names is None else tuple(names), own)
        gzipped = _takes_gzip(headers.get("Accept-Encoding", ""))
        key = asked, tuple((s.battery, s.revision) for s in snapshots), gzipped
        if key not in self._rendered:
            self._rendered[key] = self._render(asked, snapshots, gzipped=gzipped)
            asyncio.get_running_loop().call_soon(self._rendered.pop, key)
        return self._rendered[key]

    def _render(
        self, asked: Query, snapshots: Sequence[Snapshot], *, gzipped: bool
    ) -> tuple[dict[str, str], bytes]:
        served = BatteryCollector(snapshots, SERVED_ROWS, with_info=False)
        content_type, fresh = _exposed(asked, served, *([PROCESS] if asked.own else ()))
        known = self._known_of(asked, snapshots)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if gzipped:
            return headers | {"Content-Encoding": "gzip"}, known.packed.followed_by(fresh)
        return headers, known.text + fresh

    def _known_of(self, asked: Query, snapshots: Sequence[Snapshot]) -> "Known":
        """Return the text that seldom changes; only the newest of each query is remembered."""
        key = asked, tuple(snapshot.battery for snapshot in snapshots)
        own = self._own if asked.own else None
        revision = own and own.revision, tuple(snapshot.revision for snapshot in snapshots)
        known = self._known.pop(key, None)
        if known is None or known.revision != revision:
            batteries = BatteryCollector(snapshots, KNOWN_ROWS)
            _, text = _exposed(asked, batteries, *([own] if own else ()))
            known = Known(revision, text.removesuffix(b"# EOF\n"))
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
        """The same compressed, made for the first client that accepts gzip."""
        return Packed(self.text)


class Packed:
    """The beginning of a gzip stream that can be continued more than once."""

    def __init__(self, text: bytes) -> None:
        self._packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FORMAT, memLevel=GZIP_MEMORY)
        self._packed = self._packer.compress(text)

    def followed_by(self, text: bytes) -> bytes:
        """Return the whole stream with this text at its end."""
        packer = self._packer.copy()
        return self._packed + packer.compress(text) + packer.flush()


def _exposed(asked: Query, *collectors: Collector) -> tuple[str, bytes]:
    """Return content type and text, in the format that the client prefers."""
    registry = registry_of(*collectors)
    shown = registry if asked.names is None else registry.restricted_registry(asked.names)
    for accept in (asked.accept, ""):
        try:
            encode, content_type = choose_encoder(accept)
            return content_type, encode(shown)
        except (TypeError, ValueError):  # prometheus_client trips over malformed Accept headers
            continue
    raise AssertionError  # an empty Accept is the plain text format


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether a client accepts gzip; gzip;q=0 says that it does not."""
    found = GZIP.search(accept_encoding.lower())
    return found is not None and found["refused"] is None
