"""What `scan` prints: a table for people, and a configuration to paste."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import TextWrapper
from typing import Final

import yaml

from exporter.cli.findings import Finding
from exporter.config.schema import MAX_NAME

FOLD_WIDTH: Final = 10_000  # no name is that long, not even with every character escaped
COMMENT_WIDTH: Final = 79
HOW_TO_ADD: Final = 'To add it anyway, remove the "# " before its two lines:'
LEAST_WIDTH: Final = 24  # of the last column; below that, it gets lines of its own
HEADER: Final = ("name", "address", "RSSI", "what it is")

Row = tuple[str, str, str, str]


def scan_table(findings: Sequence[Finding], columns: int | None = None) -> str:
    """Return a table: batteries, possible ones, other devices; the strongest first.

    It fits into a terminal with so many columns; None: each device has one line.
    """
    rows = [
        HEADER,
        *map(_row, sorted(findings, key=_order)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    indent = sum(widths) + 2 * len(widths)
    if columns is not None and columns - indent < LEAST_WIDTH:
        return "\n".join(line for row in rows[1:] for line in _stacked(row, columns))
    return "\n".join(line for row in rows for line in _aligned(row, widths, columns))


def _order(finding: Finding) -> tuple[bool, bool, int]:
    return not finding.is_battery, not finding.is_candidate, -finding.advertisement.rssi_dbm


def _row(finding: Finding) -> Row:
    seen = finding.advertisement
    name = printable(seen.name) or "(no name)"
    return name, seen.address, f"{seen.rssi_dbm} dBm", finding.what


def _aligned(row: Row, widths: Sequence[int], columns: int | None) -> Iterator[str]:
    start = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
    first, *others = _fold(row[3], None if columns is None else columns - len(start))
    yield start + first
    for line in others:
        yield " " * len(start) + line


def _stacked(row: Row, columns: int) -> Iterator[str]:
    name, address, rssi, what = row
    yield from _fold(name, columns)
    for text in (f"{address}  {rssi}", what):
        yield from (f"  {line}" for line in _fold(text, columns - 2))


def _fold(text: str, width: int | None) -> list[str]:
    """Return the lines of a text that is not empty."""
    return [text] if width is None else TextWrapper(width=max(1, width)).wrap(text)


def scan_yaml(findings: Sequence[Finding], columns: int | None = None) -> str:
    """Return a configuration to paste, with what may be batteries as comments.

    At least one must be a battery without doubt: an empty list is no valid configuration. The
    reasons fit into a terminal with so many columns.
    """
    width = min(columns or COMMENT_WIDTH, COMMENT_WIDTH) - len("# ")
    names = _unique_names(findings)
    lines = ["batteries:"]
    for finding in findings:
        if finding.is_battery:
            lines += _entry(finding, names)
    for finding in findings:
        if not finding.is_battery:
            for text in (f"Left out, {printable(finding.why_not)}", HOW_TO_ADD):
                lines += [f"# {line}" for line in _fold(text, width)]
            lines += [f"# {line}" for line in _entry(finding, names)]
    return "\n".join(lines)


def _unique_names(findings: Sequence[Finding]) -> dict[str, str]:
    """Return a unique name by address: the advertised one, with a number if it is taken."""
    names: dict[str, str] = {}
    for seen in (finding.advertisement for finding in findings):
        own = printable(seen.name)[:MAX_NAME].strip() or seen.address
        name, number = own, 1
        while name in names.values():
            number += 1
            name = f"{own[: MAX_NAME - 6]} {number}"
        names[seen.address] = name
    return names


def _entry(finding: Finding, names: Mapping[str, str]) -> list[str]:
    """Return the lines of one battery; a folded line could not be commented out."""
    address = finding.advertisement.address
    text = yaml.safe_dump(
        [{"name": names[address], "address": address}],
        sort_keys=False,
        allow_unicode=True,
        width=FOLD_WIDTH,
    )
    return text.splitlines()


def printable(name: str) -> str:
    """Return a device's own name without characters that control a terminal."""
    return "".join(character for character in name if character.isprintable()).strip()
