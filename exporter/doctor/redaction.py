"""Replaces addresses and serial numbers by others that are the same throughout a report."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from exporter.doctor.check import Fact
from exporter.recording.redact import Redactor

LONG_NUMBER: Final = re.compile(r"\d{4,}")


class Redaction:
    """Keeps the maker's half of an address, as recordings do, unless it is switched off."""

    def __init__(self, *, is_on: bool = True) -> None:
        self._redactor = Redactor() if is_on else None

    def know(self, addresses: Iterable[str]) -> None:
        """Recognise these addresses from now on, also backwards and as a part of a name."""
        for address in addresses:
            self.text(address)

    def text(self, text: str) -> str:
        """Return a text with every address in it replaced."""
        return text if self._redactor is None else self._redactor.words(text)

    def advertised_name(self, name: str) -> str:
        """Return a battery's own name without its serial number: other digits become 0."""
        return name if self._redactor is None else self._redactor.name(name)

    def own_name(self, name: str) -> str:
        """Return a name of the configuration, in which a long number may be a serial number."""
        if self._redactor is None:
            return name
        return LONG_NUMBER.sub(lambda number: "0" * len(number[0]), self.text(name))

    def fact(self, fact: Fact) -> Fact:
        """Return a fact with every text in it redacted."""
        if isinstance(fact, str):
            return self.text(fact)
        if isinstance(fact, Mapping):
            return {self.text(key): self.fact(value) for key, value in fact.items()}
        if isinstance(fact, list | tuple):
            return [self.fact(one) for one in fact]
        return fact
