"""Records one session as JSON lines, redacted as they are added: nothing else is kept.

docs/recordings.md describes the lines. Times are seconds since the beginning of the recording.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from exporter import __version__
from exporter.errors import BmsError
from exporter.protocol.advertisement import Advertisement
from exporter.reading import Reading
from exporter.recording.lines import Lines, Write, order
from exporter.recording.machine import describe_machine
from exporter.recording.outcome import describe_error, describe_reading
from exporter.recording.redact import Redactor, zero_serials

FORMAT: Final = 1
WRITE_REQUEST: Final = 0x12
WRITES: Final = (WRITE_REQUEST, 0x52)
NOTIFIES: Final = (0x1B, 0x1D)
VALUE_AT: Final = 3  # behind opcode and handle
TABLES: Final = (0x01, 0x03, 0x05, 0x09, 0x11, 0x13)  # responses without values
NO_VALUES: Final = {0x05: 1, 0x09: 7, 0x11: 6}  # format or length of entries with 16-bit UUIDs
SHORT: Final = 5  # an error; the answers 0x03 and 0x13 are shorter


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
        self._clock = clock
        self._began_s = clock()
        self._redactor = Redactor([address]) if redactor is None else redactor
        header = {
            "record": FORMAT,
            "version": __version__,
            "kernel": os.uname().release,
            "machine": os.uname().machine,
            **describe_machine(),
            **self._redact(facts or {}),
            "battery": self._redactor.address(address),
            "redacted": True,
        }
        self._lines = Lines(write, header, self._redactor)
        self._is_connected = False

    def route(self, link: str, style: str) -> None:
        """Record which transport is used, and how."""
        if self._lines.header is not None:
            self._lines.header |= {"link": link, "style": style}
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
            self._add_value("tx", {}, "tx", pdu[:VALUE_AT], pdu[VALUE_AT:])
            self._lines.flush(("tx", bytes(pdu[:VALUE_AT])))  # a write is a whole frame
        else:
            self._add({"tx": pdu.hex()})

    def received(self, pdu: bytes) -> None:
        """Record a PDU from the battery."""
        opcode, redactor = pdu[:1], self._redactor
        if opcode and pdu[0] in NOTIFIES:
            self._add_value("rx", {}, "rx", pdu[:VALUE_AT], pdu[VALUE_AT:])
        elif opcode and pdu[0] in TABLES:
            is_plain = len(pdu) <= SHORT or pdu[1] == NO_VALUES.get(pdu[0])
            redacted = pdu if is_plain else pdu[:2] + redactor.table(pdu[2:])
            self._add({"rx": redacted.hex()}, ["table"] if redacted != pdu else [])
        else:
            redacted = opcode + redactor.data(zero_serials(pdu[1:]))
            self._add({"rx": redacted.hex()}, ["bytes"] if redacted != pdu else [])

    def written(self, uuid: str, data: bytes, *, response: bool) -> None:
        """Record a write through bluetoothd."""
        facts = {"ev": "write", "uuid": uuid, "response": response}
        self._add_value(f"write {uuid}", facts, "hex", b"", data)
        self._lines.flush((f"write {uuid}", b""))

    def subscribing(self, uuid: str) -> None:
        """Record the request for notifications through bluetoothd."""
        self._add({"ev": "subscribe", "uuid": uuid})

    def notified(self, uuid: str, data: bytes) -> None:
        """Record a notification through bluetoothd."""
        self._add_value(f"notify {uuid}", {"ev": "notify", "uuid": uuid}, "hex", b"", data)

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
        self._lines.flush()
        edited = order(self._lines.edited)
        result: dict[str, Any] = {"counters": counters or {}, "edited": edited}
        if isinstance(outcome, Reading):
            result["reading"] = self._redact(describe_reading(outcome), self._redactor.words)
        elif outcome is not None:
            result |= describe_error(outcome)
        self._add({"result": result})

    def _redact(self, fact: Any, redact: Callable[[str], str] | None = None) -> Any:
        if isinstance(fact, str):
            return (redact or self._redactor.message)(fact)
        if isinstance(fact, Mapping):
            return {key: self._redact(one, redact) for key, one in fact.items()}
        if isinstance(fact, list | tuple):
            return [self._redact(one, redact) for one in fact]
        return fact

    def _add(self, facts: Mapping[str, Any], edited: Iterable[str | int] = ()) -> None:
        self._lines.add({"t": self._now(), **facts}, edited)

    def _add_value(
        self, stream: str, facts: Mapping[str, Any], name: str, before: bytes, value: bytes
    ) -> None:
        self._lines.add_value(
            (stream, bytes(before)), {"t": self._now(), **facts}, name, bytes(before), bytes(value)
        )

    def _now(self) -> float:
        return round(self._clock() - self._began_s, 3)
