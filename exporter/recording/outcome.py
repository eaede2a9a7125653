"""How a session ended, as JSON shows it: a reading or an error."""

import json
from dataclasses import asdict
from datetime import date
from typing import Any

from exporter.errors import BmsError
from exporter.reading import Reading


def describe_reading(reading: Reading) -> dict[str, Any]:
    """Return the values of a reading as JSON has them, without the time of its request."""
    facts = asdict(reading)
    del facts["requested_at_s"]  # seconds since boot mean nothing elsewhere
    described: dict[str, Any] = json.loads(json.dumps(facts, default=_plain))
    return described


def describe_error(error: BmsError) -> dict[str, Any]:
    """Return class, reason and cause; a message may quote what the battery sent."""
    return {"error": type(error).__name__, "reason": error.reason, "cause": error.cause}


def _plain(part: Any) -> Any:
    if isinstance(part, frozenset):
        return sorted(part)
    if isinstance(part, date):
        return part.isoformat()
    raise TypeError(part)
