"""Snapshots as prometheus_client's text, rendered no more often than they change."""

import asyncio
import re
import zlib
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from prometheus_client import make_asgi_app
from prometheus_client.registry import Collector

from exporter.asgi import Scope, Send
from exporter.metrics import (
    KNOWN_ROWS,
    PROCESS,
    SERVED_ROWS,
    BatteryCollector,
    ExporterCollector,
    registry_of,
)
from exporter.poller import Snapshot

GZIP: Final = re.compile(rb"(?:^|,)\s*gzip\s*(?P<refused>;\s*q=0(\.0*)?\s*)?(?:[;,]|$)")
GZIP_LEVEL: Final = 3  # 9 takes five times as long for a tenth less
# zlib's wbits and memLevel: a quarter of the memory of its own, 64 KiB, for the same size.
GZIP_FORMAT: Final = 16 + 13
GZIP_MEMORY: Final = 6


class Asked(NamedTuple):
    """What a scrape wants."""

    accept: tuple[bytes, ...]  # formats
    query: bytes
    own: bool  # the exporter's own metrics, too


class Exposition:
    """Renders no more than has changed, and once for all who ask in the same turn of the loop.

    A thousand scrapes that have waited for one poll cost one rendering, and a client that asks
    faster than it can be answered does not keep others waiting.
    """

    def __init__(self, own: ExporterCollector | None, bound: Callable[[], int]) -> None:
        """Prepare.

        Args:
            own: The exporter's own metrics.
            bound: How many renderings to remember; those that were asked for last.
        """
        self._own = own
        self._bound = bound
        self._rendered: dict[Hashable, list[Any]] = {}
        self._known: dict[Hashable, Known] = {}

    async def answer(
        self, scope: Scope, send: Send, snapshots: Sequence[Snapshot], *, own: bool
    ) -> None:
        """Answer one request with these snapshots, and with the exporter's own metrics or not."""
        accept = tuple(value for name, value in scope["headers"] if name == b"accept")
        asked = Asked(accept, scope["query_string"], own)
        key = asked, tuple((s.battery, s.revision) for s in snapshots), _takes_gzip(scope)
        if key not in self._rendered:
            self._rendered[key] = await self._render(asked, snapshots, gzipped=key[-1])
            asyncio.get_running_loop().call_soon(self._rendered.pop, key)
        for message in self._rendered[key]:
            await send(message)

    async def _render(
        self, asked: Asked, snapshots: Sequence[Snapshot], *, gzipped: bool
    ) -> list[Any]:
        """Return the two messages of an answer. Does not wait, so that nobody renders meanwhile."""
        served = BatteryCollector(snapshots, SERVED_ROWS, with_info=False)
        start, fresh = await _exposed(asked, served, *([PROCESS] if asked.own else ()))
        known = await self._known_of(asked, snapshots)
        headers = list(start["headers"])
        if gzipped:
            body = known.packed.followed_by(fresh)
            headers.append((b"content-encoding", b"gzip"))
        else:
            body = known.text + fresh
        headers.append((b"content-length", str(len(body)).encode()))
        return [{**start, "headers": headers}, {"type": "http.response.body", "body": body}]

    async def _known_of(self, asked: Asked, snapshots: Sequence[Snapshot]) -> "Known":
        """Return what seldom changes, rendered; only the newest of each is remembered."""
        key = asked, tuple(snapshot.battery for snapshot in snapshots)
        own = self._own if asked.own else None
        revision = own and own.revision, tuple(snapshot.revision for snapshot in snapshots)
        known = self._known.pop(key, None)
        if known is None or known.revision != revision:
            batteries = BatteryCollector(snapshots, KNOWN_ROWS)
            _, text = await _exposed(asked, batteries, *([own] if own else ()))
            known = Known(revision, text.removesuffix(b"# EOF\n"))
        self._known[key] = known  # the last one is the newest
        while len(self._known) > self._bound():
            del self._known[next(iter(self._known))]
        return known


class Known:
    """What some batteries told until they tell something else, rendered."""

    def __init__(self, revision: Hashable, text: bytes) -> None:
        self.revision = revision
        self.text = text

    @cached_property
    def packed(self) -> "Packed":
        """The same for those who take gzip, made when the first of them comes."""
        return Packed(self.text)


class Packed:
    """The beginning of a gzip stream, which may go on in more than one way."""

    def __init__(self, text: bytes) -> None:
        self._packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_FORMAT, memLevel=GZIP_MEMORY)
        self._packed = self._packer.compress(text)

    def followed_by(self, text: bytes) -> bytes:
        """Return the stream that ends with this text."""
        packer = self._packer.copy()
        return self._packed + packer.compress(text) + packer.flush()


async def _exposed(asked: Asked, *collectors: Collector) -> tuple[dict[str, Any], bytes]:
    """Let prometheus_client render: it negotiates the format, and filters by name[]."""
    app = make_asgi_app(registry_of(*collectors), disable_compression=True)
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def keep(message: Any) -> None:
        messages.append(message)

    headers = [(b"accept", value) for value in asked.accept]
    try:
        await app({"type": "http", "headers": headers, "query_string": asked.query}, receive, keep)
    except (TypeError, ValueError):
        # It parses Accept and the query before it answers, and trips over malformed ones.
        await app({"type": "http", "headers": [], "query_string": b""}, receive, keep)
    return messages[0], messages[1]["body"]


def _takes_gzip(scope: Scope) -> bool:
    """Whether a request accepts gzip; gzip;q=0 says that it does not."""
    said = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding")
    found = GZIP.search(said.lower())
    return found is not None and found["refused"] is None
