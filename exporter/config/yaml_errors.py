"""Says in plain words why a file is not YAML, and where; imported after a mistake only."""

import re
from typing import Final

import yaml

INDENT: Final = "the indentation does not match the lines above: align it with them, with spaces"
TAB: Final = "a tab: indent with spaces"
NO_COLON: Final = "a colon and a blank are missing after the key"
BACKSLASH: Final = "a backslash in double quotes: use single quotes"
SCANNED: Final = "this is the table of bms-exporter scan: delete the lines above batteries:"
ELSE: Final = "this is not YAML: check the indentation, the colons and the quotes"

# How PyYAML's problem begins -> what to do. "@": the line where the context begins has the mistake.
CURES: Final = {
    "expected <block end>, but found ','": "a comma ends a value only inside [ ] or { }: remove it",
    "expected <block end>": INDENT,
    "mapping values are not allowed": "a second colon: put a text that has a colon in quotes",
    "sequence entries are not allowed": "a dash cannot follow a colon: begin a new line with it",
    "found character '\\t'": TAB,
    "found character": "a value cannot begin with {}: put it in quotes",
    "but found another document": "a second document begins here: remove the line ---",
    "found unexpected end of stream": "@this quote is not closed",
    "found unexpected document separator": "@this quote is not closed",
    "found unknown escape character": BACKSLASH,
    "expected escape sequence": BACKSLASH,
    "could not find expected ':'": f"@{NO_COLON}",
    "expected ',' or ']'": "@this [ is not closed, or a comma is missing in it",
    "expected ',' or '}'": "@this { is not closed, or a comma is missing in it",
    "found undefined alias": "a value cannot begin with *: put it in quotes",
    "expected alphabetic or numeric": "a value cannot begin with *, & or %: put it in quotes",
    "half a character": "half a character, \\ud800 to \\udfff: write the whole one",
    "special characters are not allowed": "a control character: delete it",
}
QUOTED: Final = re.compile(r"'(.)'")
TABLE: Final = re.compile(r"name +address +RSSI ")  # scan prints it to a terminal
TAB_INDENT: Final = re.compile(r" *\t")


def explain(error: Exception, text: str) -> tuple[int, str]:
    """Return the line number, from 1, and what to do about it."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    problem = str(problem or getattr(error, "context", None) or "")
    key = next((key for key in CURES if problem.startswith(key)), None)
    cure = CURES.get(key or "", ELSE)
    start, end = (getattr(error, f"{where}_mark", None) for where in ("context", "problem"))
    marks = (start, end) if cure.startswith("@") else (end, start)
    line = next((mark.line + 1 for mark in marks if mark is not None), None)
    if line is None:
        position = error.position if isinstance(error, yaml.reader.ReaderError) else 0
        line = text.count("\n", 0, position) + 1
    lines = [*text.splitlines(), ""]
    table = next((n for n in range(1, line + 1) if TABLE.match(lines[n - 1])), None)
    if table is not None:
        return table, SCANNED
    if TAB_INDENT.match(lines[line - 1]):
        return line, TAB
    if end and key == "mapping values are not allowed" and ":" not in lines[line - 1][: end.column]:
        return _explain_line_above(lines, line)
    if quoted := QUOTED.search(problem):
        cure = cure.replace("{}", quoted[1])
    return line, cure.removeprefix("@")


def _explain_line_above(lines: list[str], line: int) -> tuple[int, str]:
    """Return what is wrong where the first colon of a line comes too late.

    To YAML, a line that is indented more than the one above continues its text.
    """
    number = next(n for n in range(line - 1, 0, -1) if lines[n - 1].strip())
    above = lines[number - 1].strip()
    if not (": " in above or above.endswith(":")):
        return number, NO_COLON
    if above.startswith("-") and not above.startswith("- "):
        return number, "a blank is missing after the dash"
    return line, INDENT
