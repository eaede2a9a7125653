"""Print docs/metrics.md: the metrics of the exporter's tables, by the questions that they answer."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from metrics_questions import QUESTIONS, Question
from prometheus_client import Metric

from exporter.bank_metrics import BANK_ROWS, INFO, MEMBER
from exporter.clock import WallClock
from exporter.config.schema import Config
from exporter.localtime import LocalTime
from exporter.metrics import INFOS, PROXY_ROWS, ROWS, ExporterCollector

HEAD: Final = """\
# Metrics

Made by `make docs` from the exporter's tables of metrics and `scripts/metrics_questions.py`.

The metrics of a battery have the label `battery`, the configured name; the tables show further labels. A number that is
not known, or older than `max_age`, is absent, never 0. Current is positive while charging.

"""
TABLE: Final = """
| metric | type | labels | meaning |
|---|---|---|---|
"""
TAIL: Final = """
## Time to empty and to full

One rule holds for `/api/v1`, the page and the rules for Prometheus (`bms:time_to_empty_seconds`,
`bms:time_to_full_seconds`):

- The current is the mean of the half hour before the last reading. Times without a reading do not count.
- Time to empty is the remaining capacity divided by that current. Time to full is the missing capacity divided by it:
  up to the full capacity where the BMS has learned one, else up to the nominal capacity.
- Both are absent at rest (a mean below 0.05 A), beyond 30 days, and while the present current has the opposite
  direction. Time to full is absent at 100 %.

## Until the morning

`/api/v1`, the page and the dashboard *Camper energy* answer by one rule whether the charge lasts until the morning:

- The night is like the last one: its current is the mean of what was drawn by night in the past 24 hours. Charging
  counts as 0.
- By day, this current lasts from the beginning of the night (`night`) until the morning (`morning`). By night, it lasts
  from now on.
- The answer is yes if at least `low` is left then, and no if less than `critical` is left. For a bank,
  the thresholds of its batteries are added; in series, the same ratio of its nominal capacity counts.

The exporter remembers 24 hours, but not across a restart. Until it has read a battery by night, it gives no answer.
For a bank it adds or averages the mean currents of the batteries; the dashboard uses the current of the bank.
"""


class Entry(NamedTuple):
    """One row of a table."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def entries() -> Iterator[Entry]:
    """Yield every metric of the exporter but `process_*`."""
    for row in ROWS:
        kind = row.kind(row.name, row.help).type
        name = f"{row.name}_total" if kind == "counter" else row.name
        yield Entry(name, kind, (row.label,) if row.label else (), row.help)
    for info in INFOS:
        yield Entry(f"{info.name}_info", "info", tuple(info.labels), info.help)
    for bank in BANK_ROWS:
        yield Entry(bank.name, "gauge", (), bank.help)
    yield Entry(MEMBER[0], "gauge", ("battery",), MEMBER[1])
    yield Entry(f"{INFO[0]}_info", "info", ("wiring",), INFO[1])
    for name, text, _ in PROXY_ROWS:
        yield Entry(name, "gauge", ("proxy",), text)
    yield from map(_entry, _own_families())


def _own_families() -> Iterable[Metric]:
    others = [LocalTime(Config(batteries=()), WallClock())]
    return ExporterCollector(adapter_restarts=lambda: {("", ""): 0}, others=others).collect()


def _entry(family: Metric) -> Entry:
    sample = family.samples[0]
    return Entry(sample.name, family.type, tuple(sample.labels), family.documentation)


def section(question: Question, known: dict[str, Entry]) -> str:
    """Return the section of a question; raises KeyError if it names an unknown metric."""
    rows = []
    for name in question.metrics:
        entry = known[name]
        labels = ", ".join(f"`{label}`" for label in entry.labels)
        rows.append(f"| `{name}` | {entry.kind} | {labels} | {entry.text} |\n")
    text = f"\n{question.text}\n" if question.text else ""
    query = f"This shows {question.query_for}:\n\n```promql\n{question.query}\n```\n"
    return f"\n## {question.title}\n\n{query}{TABLE}{''.join(rows)}{text}"


def text() -> str:
    """Return the document."""
    known = {entry.name: entry for entry in entries()}
    links = (
        f"- [{one.title}](#{one.title.lower().replace(' ', '-').rstrip('?')})\n"
        for one in QUESTIONS
    )
    return HEAD + "".join(links) + "".join(section(one, known) for one in QUESTIONS) + TAIL


if __name__ == "__main__":
    print(text(), end="")
