"""Snapshots as Prometheus text: prometheus_client renders a template; scrapes fill in numbers."""

import re
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.bank_metrics import BankCollector
from exporter.battery.snapshot import Snapshot
from exporter.config.schema import BankConfig
from exporter.metrics import INFOS, ROWS, BatteryCollector, Value

GZIP: Final = re.compile(r"(?:^|,)\s*gzip\s*(?P<refused>;\s*q=0(\.0*)?\s*)?(?:[;,]|$)")
GZIP_LEVEL: Final = 3  # 1 is hardly faster; 6 takes twice as long for a tenth less
GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
EOF: Final = b"# EOF\n"  # of OpenMetrics
PLAIN: Final = 1e6  # below it numbers are written as in Python, without floatToGoString: faster
SAMPLE: Final = re.compile(r"^([^#].* )\S+$", re.MULTILINE)
SAMPLE_NAME: Final = re.compile(rb"[^{ ]+")

VERSIONS: Final = ("0.0.4", "1.0.0")
ESCAPINGS: Final = ("allow-utf-8", "underscores", "dots", "values")
FORMATS: Final[dict[str, Callable[[Collector], bytes]]] = {
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
"""The encoder of each content type; versions that a client invents are not among them."""


class Exposition:
    """Fills the numbers of each scrape into a template, which is kept while no series changes."""

    def __init__(
        self,
        own: Sequence[Collector],
        bound: Callable[[], int],
        banks: Sequence[BankConfig] = (),
    ) -> None:
        """Start without templates; `bound` returns how many of the last used ones to keep."""
        self._own = own
        self._banks = banks
        self._bound = bound
        self._templates: dict[Hashable, Template] = {}

    def response(
        self, headers: Mapping[str, str], query: str, snapshots: Sequence[Snapshot], *, own: bool
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body for a request with these headers and this undecoded query.

        `name[]` in the query chooses metrics; `own` adds those of the exporter and of the banks.
        """
        content_type = _content_type(headers.get("Accept", ""))
        others = [BankCollector(self._banks, snapshots), *self._own] if own else []
        body = self._render(content_type, Scrape(snapshots, others), own=own)
        if names := parse_qs(query).get("name[]"):
            body = only(frozenset(name.encode() for name in names), body)
        answered = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if _takes_gzip(headers.get("Accept-Encoding", "")):
            answered["Content-Encoding"] = "gzip"
            body = zlib.compress(body, GZIP_LEVEL, GZIP_FORMAT)
        return answered, body

    def _render(self, content_type: str, scrape: "Scrape", *, own: bool) -> bytes:
        key = content_type, own, scrape.batteries
        template = self._templates.pop(key, None)
        if template is None or template.series != scrape.series:
            template = Template.render(scrape, FORMATS[content_type])
        self._templates[key] = template  # at the end: used last
        while len(self._templates) > self._bound():
            del self._templates[next(iter(self._templates))]
        return template.fill(scrape.values)


class Scrape(Collector):
    """The metrics of one scrape: families for prometheus_client, or only their numbers."""

    def __init__(self, snapshots: Sequence[Snapshot], others: Iterable[Collector]) -> None:
        """Collect every number now."""
        self._snapshots = snapshots
        self._others = [family for collector in others for family in collector.collect()]
        self.batteries = tuple(snapshot.battery for snapshot in snapshots)
        self.values: list[float] = []  # in the order in which prometheus_client shows them
        self.series: list[Hashable] = []  # equal for scrapes with the same names and labels
        for row in ROWS:
            for snapshot in snapshots:
                self._add(row.value(snapshot))
        for info in INFOS:
            for snapshot in snapshots:
                labels = info.values(snapshot)
                self.series.append(labels)
                self._add(None if labels is None else 1.0)
        for sample in chain.from_iterable(family.samples for family in self._others):
            self.values.append(sample.value)
            self.series.append((sample.name, *sample.labels.items()))

    def _add(self, value: Value) -> None:
        if isinstance(value, dict):
            self.values += value.values()
            self.series.append(tuple(value))
        elif value is not None:
            self.values.append(value)
            self.series.append(True)
        else:
            self.series.append(False)

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        yield from BatteryCollector(self._snapshots).collect()
        yield from self._others


class Template(NamedTuple):
    """The exposition of some series, without the numbers."""

    series: Sequence[Hashable]
    text: str  # %s in place of each number

    @classmethod
    def render(cls, scrape: Scrape, encode: Callable[[Collector], bytes]) -> "Template":
        """Let prometheus_client render a scrape, and remove the numbers."""
        text = encode(scrape).decode().replace("%", "%%")
        return cls(scrape.series, SAMPLE.sub(r"\1%s", text))

    def fill(self, values: Iterable[float]) -> bytes:
        """Return the exposition with these numbers, in the order of the series."""
        numbers = (
            repr(float(value)) if -PLAIN < value < PLAIN else floatToGoString(value)
            for value in values
        )
        return (self.text % (*numbers,)).encode()


def only(names: frozenset[bytes], text: bytes) -> bytes:
    """Return the samples with these names, below the comments of their families.

    It is cheaper than rendering again, and a client may choose other names in every request.
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


def _content_type(accept: str) -> str:
    """Return the content type that a client prefers."""
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # prometheus_client fails on malformed headers
        content_type = ""
    return content_type if content_type in FORMATS else next(iter(FORMATS))


def _takes_gzip(accept_encoding: str) -> bool:
    """Return whether a client accepts gzip; with gzip;q=0 it does not."""
    found = GZIP.search(accept_encoding.lower())
    return found is not None and found["refused"] is None
