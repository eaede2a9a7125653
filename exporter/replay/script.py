"""What a recorded battery does, without I/O: attempts to connect, and what each request causes.

What arrived is caused by the last request before it. So nothing is delivered before the request
that it followed in the recording, however long the exporter takes now.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from exporter.protocol import auth
from exporter.protocol.advertisement import Advertisement
from exporter.recording.session import Event

REQUESTS: Final = ("tx", "write", "subscribe")
LAST_ERRNO: Final = 4095  # the kernel's MAX_ERRNO
ARRIVALS: Final = ("rx", "notify", "subscribed", "confirmed", "refused")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that arrives `after_s` after the request that caused it."""

    after_s: float
    event: Event


@dataclass(slots=True)
class Request:
    """A recorded request, or the beginning of the connection, and what it caused."""

    event: Event
    deliveries: list[Delivery] = field(default_factory=list)
    is_used: bool = False


@dataclass(slots=True)
class Attempt:
    """An attempt to connect; without an outcome it was given up."""

    event: Event  # its beginning
    failure: Event | None = None
    connected: Request | None = None
    services: Event | None = None  # as read by bluetoothd
    requests: list[Request] = field(default_factory=list)
    closed: Event | None = None  # by us
    gone: Event | None = None

    @property
    def last(self) -> Request | None:
        """The newest request."""
        return self.requests[-1] if self.requests else self.connected


def read_attempts(events: Iterable[Event]) -> list[Attempt]:
    """Return the attempts of one session over one transport.

    Raises:
        RecordingError: An event has no place in a session.
    """
    attempts: list[Attempt] = []
    for event in events:
        _check(event)
        if event.name == "open":
            attempts.append(Attempt(event))
        elif attempts:
            _add(attempts[-1], event)
        elif event.name in {*REQUESTS, *ARRIVALS, "connected"}:
            event.refuse('there is no "open" before it')
    return attempts


def _check(event: Event) -> None:
    """Read all that a replay reads later, when no error could be reported."""
    for key in ("tx", "rx", "hex"):
        event.data(key)
    for key in ("ev", "uuid", "by", "doing", "error", "dbus", "reason", "text"):
        event.get(key, str, "")
    event.get("kind", int, 0)
    if not 0 <= event.get("errno", int, 0) <= LAST_ERRNO:
        event.refuse(f"errno: expected 0 to {LAST_ERRNO}")
    event.get("response", bool, False)
    if event.name == "tx" and not event.data("tx"):
        event.refuse("tx: expected at least one byte")
    if event.password is not None:
        event.password.get("step", int, 0)
        event.password.get("answer", int, 0)
    if event.name == "services":
        read_services(event)


def read_services(event: Event) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return properties by characteristic by service."""
    table = event.at("table")
    return {
        service: {one: table.at(service).texts(one) for one in table.at(service).facts}
        for service in table.facts
    }


def read_advertisement(event: Event, address: str) -> Advertisement:
    """Return what the battery advertised."""
    adv = event.at("adv")
    maker = adv.at("maker")
    if not all(_is_company(company) for company in maker.facts):
        event.refuse("maker: expected numbers of companies")
    return Advertisement(
        address=address,
        name=adv.get("name", str, ""),
        rssi_dbm=adv.get("rssi", int, 0),
        service_uuids=frozenset(adv.texts("services")),
        manufacturer_data={int(company): maker.data(company) for company in maker.facts},
        address_type=adv.get("type", str, "") or None,
    )


def _is_company(text: str) -> bool:
    return text.isdecimal() and len(text) <= len("65535") and int(text) < 1 << 16


def _add(attempt: Attempt, event: Event) -> None:
    name, last = event.name, attempt.last
    if name == "failed":
        attempt.failure = event
    elif name == "connected":
        attempt.connected = Request(event)
    elif name == "services":
        attempt.services = event
    elif name == "gone":
        attempt.gone = event
    elif name == "closed" and event.get("by", str, "us") == "us":
        attempt.closed = event
    elif name in {*REQUESTS, *ARRIVALS, "closed"}:
        if last is None:
            event.refuse('there is no "connected" before it')
        if name in REQUESTS:
            attempt.requests.append(Request(event))
        else:
            last.deliveries.append(Delivery(event.t - last.event.t, event))


class UnknownRequestError(Exception):
    """The exporter sent what the recording does not hold."""


class Conversation:
    """The requests of one connection: each is answered as it was."""

    def __init__(self, requests: Sequence[Request], *, repeats: bool) -> None:
        """Answer these requests; with `repeats` also more often than recorded.

        Other delays change how often a request is sent again.
        """
        self._requests = requests
        self._repeats = repeats

    def ask(self, matches: Callable[[Event], bool], shown: str) -> Request:
        """Return the recorded request that matches, the first one that was not yet asked.

        Raises:
            UnknownRequestError: There is none; the message has both sides.
        """
        same = [request for request in self._requests if matches(request.event)]
        for request in same:
            if not request.is_used:
                request.is_used = True
                return request
        if same and self._repeats:
            return same[-1]
        unused = [request.event for request in self._requests if not request.is_used]
        if not unused:
            raise UnknownRequestError(f"the exporter asks for {shown}, the recording has no more")
        expected = show(unused[0])
        raise UnknownRequestError(
            f"{unused[0].where}: the exporter asks for {shown}, the recording has {expected}"
        )


def show(event: Event) -> str:
    """Return a recorded request as a message shows it."""
    if event.name == "tx":
        shown = event.data("tx").hex()
    elif event.name == "write":
        shown = f"write {event.data('hex').hex()} to {event.get('uuid', str, '')}"
    else:
        shown = f"subscribe to {event.get('uuid', str, '')}"
    return shown if event.password is None else f"{shown} (password, step {_step(event):#04x})"


def matches_value(event: Event, recorded: bytes, value: bytes) -> bool:
    """Return whether a written value is the recorded one, of which no password was recorded."""
    if event.password is None:
        return recorded == value
    return value[:2] == auth.HEAD and value[2:3] == bytes([_step(event)])


def restore_value(event: Event, recorded: bytes) -> bytes:
    """Return a received value, with an answer of the password exchange where there was one."""
    password = event.password
    if password is None:
        return recorded
    return recorded + auth.encode(_step(event), bytes([password.get("answer", int, 0) & 0xFF]))


def _step(event: Event) -> int:
    password = event.password
    return 0 if password is None else password.get("step", int, 0) & 0xFF
