"""What `doctor` prints: a line for each check, and the JSON file."""

import json
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exporter import __version__
from exporter.doctor.check import LABELS, Check, Fact, State, first_to_do
from exporter.doctor.redaction import Redaction

LABEL_WIDTH: Final = 11
STATE_WIDTH: Final = 5
NARROW: Final = 60  # below that, the text stands under its label
NARROW_INDENT: Final = 4
FORMAT: Final = 1


@dataclass(slots=True)
class Report:
    """Collects checks, and prints each as soon as it is known.

    Attributes:
        write: Takes each line.
        on_wait: Takes what is waited for, to show it for the time being; empty: nothing.
        width: Of the terminal; None: lines are not wrapped.
    """

    write: Callable[[str], None]
    on_wait: Callable[[str], None] = lambda _text: None
    width: int | None = None
    redaction: Redaction = field(default_factory=Redaction)
    checks: list[Check] = field(default_factory=list)
    batteries: list[dict[str, Fact]] = field(default_factory=list)
    began_unix_s: float = field(default_factory=time.time)
    _subject: str = ""  # of the last line

    def wait(self, text: str) -> None:
        """Show what is waited for; an empty text ends that."""
        self.on_wait(_printable(self.redaction.text(text)))

    def add(self, check: Check) -> None:
        """Record and print one check."""
        check = replace(
            check,
            subject=self.redaction.own_name(check.subject),
            text=_printable(self.redaction.text(check.text)),
            advice=check.advice and self.redaction.text(check.advice),
        )
        self.checks.append(check)
        self.wait("")
        text = check.text
        if check.advice and check.state is not State.OK:
            text = f"{text}; {check.advice}"
        self._write(self._label(check), check.state, text)

    def _label(self, check: Check) -> str:
        """Return the subject for the first line about it, then what is checked of it."""
        if check.subject and check.subject != self._subject:
            self._subject = check.subject
            return check.subject
        return LABELS[check.id]

    def conclude(self, summary: str, *, is_well: bool) -> None:
        """Print how it ended, and the one thing to do."""
        self.wait("")
        self._write("verdict", State.OK if is_well else State.FAIL, summary)
        if (first := first_to_do(self.checks)) is not None:
            about = first.subject or LABELS[first.id].strip()
            todo = "One thing to do" if first.state is State.FAIL else "Worth a look"
            text = f"{about}: {first.text}" + f"; {first.advice}" * bool(first.advice)
            self._write_wrapped(f"{todo}: ", text)

    def _write(self, label: str, state: str, text: str) -> None:
        head = f"{label:<{LABEL_WIDTH}}{state:<{STATE_WIDTH}}"
        if self.width is not None and len(label) >= LABEL_WIDTH and self.width >= NARROW:
            self.write(label)
            head = f"{'':<{LABEL_WIDTH}}{state:<{STATE_WIDTH}}"
        elif len(label) >= LABEL_WIDTH:
            head = f"{label} {state:<{STATE_WIDTH}}"
        self._write_wrapped(head, text)

    def _write_wrapped(self, head: str, text: str) -> None:
        if self.width is None:
            self.write(head + text)
            return
        is_narrow = self.width < NARROW
        if is_narrow:
            self.write(head.rstrip())
        indent = " " * (NARROW_INDENT if is_narrow else LABEL_WIDTH + STATE_WIDTH)
        lines = textwrap.wrap(
            text,
            max(self.width, 2 * NARROW_INDENT),
            initial_indent=indent if is_narrow else head,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for line in lines or [head.rstrip()] * (not is_narrow):
            self.write(line)

    def as_json(self) -> str:
        """Return the report for programs: facts without sentences, a line for each check."""
        first = first_to_do(self.checks)
        verdict = first and {"id": first.id, "subject": first.subject, "state": first.state}
        checks = [
            {
                "id": check.id,
                "subject": check.subject,
                "state": check.state,
                "facts": self.redaction.fact(check.facts),
                "advice": check.advice,
            }
            for check in self.checks
        ]
        batteries = [
            {"name": self.redaction.own_name(str(one["name"]))}
            | {key: self.redaction.fact(value) for key, value in one.items() if key != "name"}
            for one in self.batteries
        ]
        parts = {
            "doctor": json.dumps(FORMAT),
            "version": json.dumps(__version__),
            "began_unix_s": json.dumps(round(self.began_unix_s)),
            "checks": _lines(checks),
            "batteries": _lines(batteries),
            "verdict": json.dumps(verdict, ensure_ascii=False),
        }
        return "{" + ",\n".join(f'"{name}": {part}' for name, part in parts.items()) + "}\n"


def _printable(text: str) -> str:
    """Return a text without characters that control a terminal: batteries choose their names."""
    return "".join(character for character in text if character.isprintable())


def _lines(objects: Sequence[Mapping[str, Any]]) -> str:
    return "[" + ",\n ".join(json.dumps(one, ensure_ascii=False) for one in objects) + "]"
