"""Reads the values of one mapping in a YAML file, and collects their mistakes."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar

from exporter.config.yaml_document import Complaint, Document, shown, unknown_key

T = TypeVar("T")

KINDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    dict: "lines like name: value below it",
    list: "a list of names",
}
GLUED: Final = re.compile(r"[^\s:]+:\S")  # a key with its value: to YAML one text
SECRET_KEYS: Final = ("cert", "key", "client_ca")  # whose values are never quoted


class Section:
    """The mapping under one key of a document; "" means the whole document.

    A value of an unexpected kind is reported, and then treated as missing.
    """

    def __init__(
        self,
        document: Document,
        complaints: list[Complaint],
        known: Collection[str],
        name: str = "",
    ) -> None:
        """Add a complaint to `complaints` about each key that is not `known`."""
        self._document = document
        self._complaints = complaints
        self._name = name
        data = document.data
        if name:
            data = data.get(name) if isinstance(data, dict) else None
        self.data: dict[str, Any] = data if isinstance(data, dict) else {}
        self.has_unknown_key = not self.data.keys() <= set(known)
        if data is not None and not isinstance(data, dict):
            self.complain("", f"expected lines like {next(iter(known))}: ..., got {shown(data)}")
        for key in self.data:
            if key not in known:
                self.complain(key, unknown_key(key, known))

    def complain(self, key: str, text: str) -> None:
        """Add a complaint about a key, or with "" about the section itself."""
        path = ".".join(filter(None, (self._name, key)))
        self._complaints.append(self._document.complaint(path, text))

    def place(self, key: str) -> str:
        """Return "FILE:LINE: " of a key, or of the section that lacks it."""
        line, _ = self._document.complaint(f"{self._name}.{key}", "")
        return f"{self._document.name}:{line}: "

    def value(self, key: str, kind: type[T]) -> T | None:
        """Return a value of this kind, one of KINDS; None: it is missing."""
        value = self.data.get(key)
        if value is None or type(value) is kind:
            return value
        is_short = kind is not dict and kind is not list
        got = f", got {shown(value)}" if is_short and key not in SECRET_KEYS else ""
        if kind is dict and isinstance(value, str) and GLUED.match(value):
            self.complain(key, "a blank is missing after the colon below it")  # of a user's hash
        else:
            self.complain(key, f"expected {KINDS[kind]}{got}")
        return None

    def texts(self, key: str, otherwise: str = "expected text: put it in quotes") -> dict[str, str]:
        """Return a mapping of names to texts; complain about others with `otherwise`."""
        found = self.value(key, dict) or {}
        for name, value in found.items():
            if not isinstance(value, str):
                self.complain(f"{key}.{name}", otherwise)
        return {name: value for name, value in found.items() if isinstance(value, str)}

    def names(self, key: str) -> list[str]:
        """Return a list of texts."""
        found = self.value(key, list) or []
        if all(isinstance(name, str) for name in found):
            return found
        self.complain(key, f"expected {KINDS[list]}")
        return []

    def choice(self, key: str, choices: Mapping[str, T], default: str) -> T:
        """Return the value of a text in `choices`; that of `default` if it is missing."""
        value = self.data.get(key, default)
        if isinstance(value, str) and value in choices:
            return choices[value]
        if value is not None:
            known = ", ".join(filter(None, choices))
            self.complain(key, f"expected one of {known}, got {shown(value)}")
        return choices[default]
