"""Records one session as JSON lines, redacted as they are added: nothing else is kept.

docs/recordings.md describes the lines. Times are seconds since the beginning of the recording.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporter import __version__
from exporter.errors import BmsError
from exporter.protocol.advertisement import Advertisement
from exporter.reading import Reading
from exporter.recording.outcome import describe_error, describe_reading
from exporter.recording.redact import Redactor
from exporter.recording.values import NOISE, Piece, Values

FORMAT: Final = 1
WRITE_REQUEST: Final = 0x12
WRITES: Final = (WRITE_REQUEST, 0x52)
NOTIFIES: Final = (0x1B, 0x1D)
VALUE_AT: Final = 3  # behind opcode and handle
LONG_UUIDS: Final = 18  # the shortest entry of a GATT table that holds a 128-bit UUID

Write = Callable[[str], None]
"""Takes one line without its end."""


@dataclass(slots=True)
class _Line:
    """A line of the recording; it may wait for the end of its frame, and so do the lines after."""

    facts: dict[str, Any]
    is_complete: bool = True
    name: str = ""  # of the bytes
    before: bytes = b""  # the bytes that need no redaction


class Recorder:
    """Writes what happens on the link to one battery."""

    def __init__(
        self,
        write: Write,
        *,
        address: str,
        clock: Callable[[], float],
        facts: Mapping[str, Any] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        """Record from now on.

        Args:
            write: Called for each line.
            address: That of the battery, in upper case with colons.
            clock: The loop's: seconds that never go back.
            facts: Of machine and configuration, for the first line; texts are redacted.
            redactor: The one of earlier recordings, which knows the address; None: a new one.
        """
        self._write = write
        self._clock = clock
        self._began_s = clock()
        self._redactor = Redactor([address]) if redactor is None else redactor
        self._header: dict[str, Any] | None = {
            "record": FORMAT,
            "version": __version__,
            "kernel": os.uname().release,
            "machine": os.uname().machine,
            **self._redact(facts or {}),
            "battery": self._redactor.address(address),
            "redacted": True,
        }
        self._values: dict[tuple[str, object], Values] = {}
        self._waiting: dict[tuple[str, object], deque[_Line]] = {}
        self._lines: deque[_Line] = deque()
        self._edited: set[str | int] = set()
        self._is_connected = False

    def route(self, link: str, style: str) -> None:
        """Record which transport is used, and how."""
        if self._header is not None:
            self._header |= {"link": link, "style": style}
        else:
            self.event("route", link=link, style=style)

    def advertised(self, advertisement: Advertisement) -> None:
        """Record an advertisement of the battery."""
        redactor = self._redactor
        name = redactor.name(advertisement.name)
        data = redactor.manufacturer_data(advertisement.manufacturer_data)
        edited = [
            *(["name"] if name != advertisement.name else []),
            *(["maker"] if data != dict(advertisement.manufacturer_data) else []),
        ]
        self._add(
            {
                "adv": {
                    "type": advertisement.address_type,
                    "rssi": advertisement.rssi_dbm,
                    "name": name,
                    "services": sorted(map(redactor.uuid, advertisement.service_uuids)),
                    "maker": {str(company): value.hex() for company, value in data.items()},
                }
            },
            edited,
        )

    def event(self, name: str, **facts: Any) -> None:
        """Record something that happened; texts in its facts are redacted."""
        self._add({"ev": name, **self._redact(facts)})

    def connected(self) -> None:
        """Record that the connection is there."""
        self._is_connected = True
        self.event("connected")

    def closed(self, by: str, errno: int | None = 0) -> None:
        """Record the end of the connection, once: "us" or "battery" ended it."""
        if self._is_connected:
            self._is_connected = False
            self.event("closed", by=by, errno=errno)

    def sent(self, pdu: bytes) -> None:
        """Record a PDU of the Attribute Protocol to the battery."""
        if pdu[:1] and pdu[0] in WRITES:
            self._add_value(
                ("tx", bytes(pdu[:VALUE_AT])), {}, "tx", pdu, value_at=VALUE_AT, is_whole=True
            )
        else:
            self._add({"tx": pdu.hex()})

    def received(self, pdu: bytes) -> None:
        """Record a PDU from the battery."""
        if pdu[:1] and pdu[0] in NOTIFIES:
            key = "rx", bytes(pdu[:VALUE_AT])
            self._add_value(key, {}, "rx", pdu, value_at=VALUE_AT, is_whole=False)
            return
        redacted = pdu
        if pdu[1:] and pdu[1] >= LONG_UUIDS:
            redacted = pdu[:2] + self._redactor.data(pdu[2:])
        self._add({"rx": redacted.hex()}, ["table"] if redacted != pdu else [])

    def written(self, uuid: str, data: bytes, *, response: bool) -> None:
        """Record a write through bluetoothd."""
        facts = {"ev": "write", "uuid": uuid, "response": response}
        self._add_value(("write", uuid), facts, "hex", data, value_at=0, is_whole=True)

    def subscribing(self, uuid: str) -> None:
        """Record the request for notifications through bluetoothd."""
        self._add({"ev": "subscribe", "uuid": uuid})

    def notified(self, uuid: str, data: bytes) -> None:
        """Record a notification through bluetoothd."""
        facts = {"ev": "notify", "uuid": uuid}
        self._add_value(("notify", uuid), facts, "hex", data, value_at=0, is_whole=False)

    def services(self, table: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Record a GATT table that bluetoothd has read: properties by characteristic by service."""
        uuid = self._redactor.uuid
        self._add(
            {
                "ev": "services",
                "table": {
                    uuid(service): {uuid(one): list(has) for one, has in characteristics.items()}
                    for service, characteristics in table.items()
                },
            }
        )

    def memory(self, **facts: Any) -> None:
        """Record what the direct link knows from earlier connections; its UUIDs stay."""
        self._add({"ev": "memory", **self._redact(facts, self._redactor.uuid)})

    def finish(
        self, outcome: Reading | BmsError | None, counters: Mapping[str, Any] | None = None
    ) -> None:
        """Record how the session ended, after everything that waits for the end of a frame."""
        self.flush()
        result: dict[str, Any] = {"counters": counters or {}, "edited": _ordered(self._edited)}
        if isinstance(outcome, Reading):
            result["reading"] = self._redact(describe_reading(outcome), self._redactor.words)
        elif outcome is not None:
            result |= describe_error(outcome)
        self._add({"result": result})

    def flush(self) -> None:
        """Write what waits for the end of a frame."""
        for key, values in self._values.items():
            self._fill(key, values.flush())
        self._drain()

    def _redact(self, fact: Any, redact: Callable[[str], str] | None = None) -> Any:
        if isinstance(fact, str):
            return (redact or self._redactor.message)(fact)
        if isinstance(fact, Mapping):
            return {key: self._redact(one, redact) for key, one in fact.items()}
        if isinstance(fact, list | tuple):
            return [self._redact(one, redact) for one in fact]
        return fact

    def _add(self, facts: dict[str, Any], edited: Iterable[str | int] = ()) -> None:
        line = _Line({"t": self._now(), **facts})
        self._mark(line, edited)
        self._lines.append(line)
        self._drain()

    def _add_value(  # noqa: PLR0913 - of one line
        self,
        key: tuple[str, object],
        facts: Mapping[str, Any],
        name: str,
        data: bytes,
        *,
        value_at: int,
        is_whole: bool,
    ) -> None:
        """Add a line with bytes, which from `value_at` on are a value or a piece of one."""
        if key not in self._values:
            self._values[key] = Values(self._redactor)
            self._waiting[key] = deque()
        line = _Line({"t": self._now(), **facts}, is_complete=False, name=name)
        line.before = bytes(data[:value_at])
        self._lines.append(line)
        self._waiting[key].append(line)
        values = self._values[key]
        self._fill(key, values.add(bytes(data[value_at:])))
        if is_whole:
            self._fill(key, values.flush())
        self._drain()

    def _fill(self, key: tuple[str, object], pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            line = self._waiting[key].popleft()
            line.facts[line.name] = (line.before + piece.data).hex()
            if piece.password is not None:
                line.facts["password"] = piece.password._asdict()
            self._mark(line, ("bytes" if one == NOISE else one for one in piece.edited))
            line.is_complete = True

    def _mark(self, line: _Line, edited: Iterable[str | int]) -> None:
        if changed := _ordered(edited):
            self._edited.update(changed)
            line.facts["edited"] = changed

    def _drain(self) -> None:
        while self._lines and self._lines[0].is_complete:
            if self._header is not None:
                header, self._header = self._header, None
                self._write(_to_json(header))
            self._write(_to_json(self._lines.popleft().facts))

    def _now(self) -> float:
        return round(self._clock() - self._began_s, 3)


def _ordered(edited: Iterable[str | int]) -> list[str | int]:
    return sorted(edited, key=str)


_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
