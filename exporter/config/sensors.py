"""Checks the names of temperature sensors in a configuration."""

import re
from collections.abc import Iterator
from typing import Final

from exporter.config.yaml_document import Complaint, Document

DEFAULT: Final = re.compile(r"ntc(\d+)", re.ASCII)


def sensor_complaints(document: Document) -> Iterator[Complaint]:
    """Find names that two sensors of a battery share."""
    for index, battery in enumerate(document.mappings("batteries")):
        names = battery.get("temperatures")
        path = f"batteries[{index}].temperatures"
        seen: set[str] = set()
        for number, name in enumerate(names if isinstance(names, list) else (), start=1):
            place = f"{path}[{number - 1}]"
            if not isinstance(name, str):
                continue
            if name in seen:
                text = f"{name!r} is in this list already: choose another one"
                yield document.complaint(place, text)
            elif (default := DEFAULT.fullmatch(name)) and int(default[1]) != number:
                text = f"{name!r} is the default name of another sensor: choose another one"
                yield document.complaint(place, text)
            seen.add(name)
