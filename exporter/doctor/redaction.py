"""Replaces addresses and serial numbers by others that are the same throughout a report."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from exporter.doctor.check import Fact
from exporter.logs import ADDRESS
from exporter.protocol.advertisement import DH04_NAMES, NAMES

LONG_NUMBER: Final = re.compile(r"\d{4,}")


class Redaction:
    """Keeps the maker's half of an address; the rest is a number that counts from 1."""

    def __init__(self, *, is_on: bool = True) -> None:
        self._is_on = is_on
        self._numbers: dict[str, int] = {}  # by address

    def text(self, text: str) -> str:
        """Return a text with every address in it replaced."""
        return ADDRESS.sub(self._replace, text) if self._is_on else text

    def _replace(self, match: re.Match[str]) -> str:
        address = match[0].upper().replace("_", ":")
        number = self._numbers.setdefault(address, len(self._numbers) + 1)
        separator = "_" if "_" in match[0] else ":"
        return match[1] + separator.join(f"{number:06d}"[at : at + 2] for at in (0, 2, 4))

    def advertised_name(self, name: str) -> str:
        """Return a battery's own name without its serial number: other digits become 0."""
        if not self._is_on:
            return name
        known = next((one for one in (*NAMES, *DH04_NAMES) if fnmatchcase(name, one)), "")
        kept = known.partition("*")[0]
        start = re.sub(r"\d", "0", name[: len(kept)])
        fixed = "".join(
            mine if mine == theirs else zero
            for mine, theirs, zero in zip(name, kept, start, strict=False)
        )
        return self.text(fixed) + re.sub(r"\d", "0", name[len(kept) :])

    def own_name(self, name: str) -> str:
        """Return a name of the configuration, in which a long number may be a serial number."""
        if not self._is_on:
            return name
        shortened = LONG_NUMBER.sub(lambda number: "0" * len(number[0]), name)
        return self.text(name if ADDRESS.fullmatch(name) else shortened)

    def fact(self, fact: Fact) -> Fact:
        """Return a fact with every text in it redacted."""
        if isinstance(fact, str):
            return self.text(fact)
        if isinstance(fact, Mapping):
            return {self.text(key): self.fact(value) for key, value in fact.items()}
        if isinstance(fact, list | tuple):
            return [self.fact(one) for one in fact]
        return fact
