"""The fuzz targets: each function takes bytes and raises if a promise is broken.

atheris is not imported here, so that `tests/test_fuzz_corpus.py` runs the corpus on every Python.
"""

import asyncio
import base64
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import bcrypt
import trustme
from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine, parse_request_start_line

from exporter.battery.snapshot import Snapshot
from exporter.ble.direct.att import Answer, Att, AttError, Notification, Reaction
from exporter.ble.direct.discovery import Table, discover
from exporter.cli.decode import decode_all, problems, to_json, to_metrics, to_text
from exporter.cli.findings import Finding
from exporter.cli.scan_output import scan_yaml
from exporter.config import Config, loader, schema
from exporter.config import web as webconfig
from exporter.config.tls import CIPHERS, CLIENT_AUTH, CURVES, VERSIONS, make_tls
from exporter.demo.battery import encode_reply
from exporter.errors import AuthError, ConfigError, DecodeError, PairingError
from exporter.link_stats import LinkTotals
from exporter.protocol import auth as exchange
from exporter.protocol import explain, jbd, pasted
from exporter.protocol.advertisement import FF00, FFF0, Advertisement, is_certain, why_jbd
from exporter.protocol.frame import (
    HEAD,
    MAX_FRAME,
    OVERHEAD,
    TAIL,
    Command,
    Frame,
    FrameAssembler,
    FrameError,
)
from exporter.protocol.profiles import PROFILES
from exporter.protocol.settings import SETTING_NAMES
from exporter.protocol.settings_values import decode_setting, merge_values
from exporter.recording.recorder import Recorder
from exporter.recording.session import RecordingError, parse_sessions
from exporter.replay.script import read_attempts
from exporter.web.app import make_app
from exporter.web.auth import Access
from exporter.web.routing import App
from tests.support.http_client import FakeConnection, send_head

ADDRESS: Final = "A4:C1:38:12:34:56"
PASSWORD: Final = b"123456"
MAC: Final = bytes.fromhex(ADDRESS.replace(":", ""))


def chunks(data: bytes) -> Iterator[bytes]:
    """Split data by length bytes, into the notifications or PDUs of an invented battery."""
    while data:
        yield data[1 : 1 + data[0]]
        data = data[1 + data[0] :]


# --- protocol/frame.py

# Length bytes with a meaning of their own.
FORGET: Final = 0xFF  # call forget()
DOUBT: Final = 0xFE  # call doubt()
MENDED: Final = 0x80  # from here to DOUBT: the notification becomes a frame with a valid checksum


def frame(data: bytes) -> None:
    """Assemble frames; the first byte is the register requested, the rest are notifications."""
    expected = [None, *Command][data[0] % 5] if data else None
    streams: list[list[bytes]] = [[]]
    assembler = FrameAssembler(expected)
    found: list[Frame] = []
    fed = 0
    for chunk, command in _deliveries(data[1:]):
        if command == FORGET:
            assembler.forget()
            streams.append([])
        elif command == DOUBT:
            assembler.doubt()
        streams[-1].append(chunk)
        found += assembler.feed(chunk)
        fed += len(chunk)
        assert len(assembler._buffer) < MAX_FRAME  # the memory is bounded
        assert assembler._buffer[:1] in (b"", bytes([HEAD]))  # noise is dropped
        assert set(assembler.errors) <= set(FrameError)
        accepted = sum(OVERHEAD + len(one.payload) for one in found)
        assert assembler.discarded + accepted + len(assembler._buffer) == fed

    valid = [_valid_frames(b"".join(stream)) for stream in streams]
    wanted = [one for frames in valid for _, one in frames if expected in (None, one.register)]
    assert all(one in wanted for one in found)
    if not any(map(_overlap, valid)):
        assert found == wanted
        for size in (1, 20, fed + 1):  # the result does not depend on the notifications' size
            assert [
                one for stream in streams for one in _cut(b"".join(stream), size, expected)
            ] == wanted


def _deliveries(data: bytes) -> Iterator[tuple[bytes, int]]:
    while data:
        command, data = data[0], data[1:]
        size = 0 if command in (FORGET, DOUBT) else command % MENDED
        chunk, data = data[:size], data[size:]
        if command >= MENDED and len(chunk) >= 2:
            chunk = encode_reply(chunk[0], chunk[2:], status=chunk[1])
        yield chunk, command


def _cut(stream: bytes, size: int, expected: int | None) -> list[Frame]:
    assembler = FrameAssembler(expected)
    pieces = (stream[at : at + size] for at in range(0, len(stream), size))
    return [one for piece in pieces for one in assembler.feed(piece)]


def _valid_frames(stream: bytes) -> list[tuple[int, Frame]]:
    """Find frames at every byte by the vendor's document, without the code under test."""
    found = []
    for at in range(len(stream) - OVERHEAD + 1):
        raw = stream[at : at + OVERHEAD + stream[at + 3]]
        if len(raw) < OVERHEAD + raw[3] or raw[0] != HEAD or raw[-1] != TAIL:
            continue
        if (sum(raw[2:-3]) + raw[-3] * 256 + raw[-2]) % 65536 == 0:
            found.append((at, Frame(register=raw[1], status=raw[2], payload=raw[4:-3])))
    return found


def _overlap(frames: Sequence[tuple[int, Frame]]) -> bool:
    """Whether frames overlap: then the first complete one is accepted."""
    ends = [at + OVERHEAD + len(one.payload) for at, one in frames]
    return any(end > at for end, (at, _) in zip(ends, frames[1:], strict=False))


# --- protocol/jbd.py, protocol/explain.py, protocol/split.py, protocol/pasted.py, cli/decode.py


def decode(data: bytes) -> None:
    """Decode the bytes as they are, and as register, status and payload of a valid frame."""
    read = decode_all([data])
    assert b"".join(one.raw for one in read) == data
    assert len(problems(read)) <= len(read)
    if len(data) >= 2:
        raw = encode_reply(data[0], data[2 : 2 + 0xFF], status=data[1])
        one = explain.parse_frame(raw)
        _explained(one, raw)
        _in_range(one)
        _settings_in_range(one)
        read += decode_all([raw])
    to_text(read)
    json.loads(to_json(read))
    if any(one.facts for one in read):
        text = to_metrics(read)
        assert "NaN" not in text
        assert "Inf" not in text


def paste(data: bytes) -> None:
    """Parse the bytes as pasted text; then parse several texts that represent the bytes."""
    complaint, pieces = "", []
    try:
        pieces = pasted.parse(pasted.split_lines(data.decode("utf-8", "ignore"), "paste"))
    except DecodeError as error:
        complaint = str(error)
    assert complaint.isprintable()
    assert len(complaint) < 600
    assert all(piece.raw for piece in pieces)
    texts = [data.hex(), data.hex(":"), f"msg=received hex={data.hex()}"]
    if b"hex" not in data:  # a field `hex=` of our log takes precedence over the rest
        texts.append(repr(data))
    for text in texts if data else ():
        lines = pasted.split_lines(text, "paste")
        assert b"".join(piece.raw for piece in pasted.parse(lines)) == data


def _explained(one: Frame, raw: bytes) -> None:
    """Check that every byte is explained once, in order."""
    try:
        lines = list(explain.explain(one))
    except DecodeError:
        return
    assert b"".join(line.raw for line in lines) == raw
    assert all(raw[line.at :].startswith(line.raw) for line in lines)


def _in_range(one: Frame) -> None:
    try:
        basic = jbd.decode_basic(one.payload)
    except DecodeError:
        pass
    else:
        assert 0 <= basic.rsoc_ratio <= 1
        assert 0 <= basic.voltage_v <= 655.35
        assert abs(basic.current_a) <= 3276.8
        assert 0 <= basic.remaining_ah <= 6553.5
        assert basic.balancing_cells <= set(range(1, 33))
        assert len(basic.temperatures_c) == one.payload[22]
        assert all(celsius is None or -273.1 < celsius < 6280.4 for celsius in basic.temperatures_c)


def _settings_in_range(one: Frame) -> None:
    """Check that a setting is a number of two bytes, in words that can be printed."""
    if one.register not in SETTING_NAMES:
        return
    for is_large in (False, True):
        try:
            rows = decode_setting(one.register, one.payload, has_100_ma_unit=is_large)
        except DecodeError:
            continue
        assert len(one.payload) == 2 or one.register >= 0xA0
        assert all(row.words.isprintable() for row in rows)
        numbers = [value for value in merge_values(rows).values() if isinstance(value, int | float)]
        assert all(-3276.8 <= number <= 65535 for number in numbers)
    with suppress(DecodeError):  # the only error allowed
        assert all(0 <= volts <= 65.535 for volts in jbd.decode_cells(one.payload))
    with suppress(DecodeError):
        assert jbd.decode_hardware(one.payload).isprintable()
    try:
        counters = jbd.decode_event_counters(one.payload)
    except DecodeError:
        return
    assert all(
        0 <= n <= 0xFFFF for n in (*counters.protection_events.values(), counters.restarts or 0)
    )


# --- protocol/auth.py


def auth(data: bytes) -> None:
    """Feed notifications to the password exchange; those that begin with FE get a checksum."""
    one = exchange.PasswordExchange(PASSWORD, MAC)
    for given in chunks(data):
        chunk = (
            exchange.encode(given[1], given[2:]) if given[:1] == b"\xfe" and given[2:] else given
        )
        before = one.request
        try:
            new = one.feed(chunk)
        except AuthError:
            return
        assert len(one._buffer) <= 64
        assert one.request[:2] == exchange.HEAD
        assert one.request[2] in (exchange.APP_KEY, exchange.RANDOM, exchange.PASSWORD)
        assert len(one.request) == exchange.OVERHEAD + one.request[3]
        assert PASSWORD not in one.request
        assert new == (one.request != before)
        assert one.request[2] >= before[2]  # the steps never go back
        if one.done:
            return


# --- ble/direct/att.py, ble/direct/discovery.py


def att(data: bytes) -> None:
    """Discover the GATT table of a hostile battery."""
    state = Att()
    steps = discover(PROFILES)
    pdus = chunks(data)
    try:
        request = next(steps)
        while True:
            _send(state, request)
            request = steps.send(_answer(state, pdus))
    except (AttError, PairingError):
        pass
    except StopIteration as end:
        if isinstance(end.value, Table):
            for handles in end.value.profiles.values():
                numbers = (handles.notify, handles.subscription, handles.write)
                assert all(0 <= number <= 0xFFFF for number in numbers)
    except EOFError:
        pass


DEFAULT_MTU: Final = 23


def _send(state: Att, request: bytes) -> None:
    assert len(request) <= DEFAULT_MTU
    state.request(request)


def _answer(state: Att, pdus: Iterator[bytes]) -> bytes:
    for pdu in pdus:
        answers = []
        for event in state.receive(pdu):
            if isinstance(event, Answer):
                answers.append(event.pdu)
            elif isinstance(event, Reaction):
                assert 0 < len(event.pdu) <= DEFAULT_MTU
            else:
                assert isinstance(event, Notification)
                assert 0 <= event.handle <= 0xFFFF
        if answers:
            assert len(answers) == 1
            return answers[0]
    raise EOFError


# --- recording/, replay/script.py


def recorder(data: bytes) -> None:
    """Record a hostile battery: no piece gets longer or lost, and its address is not there."""
    lines: list[str] = []
    recording = Recorder(lines.append, address=ADDRESS, clock=lambda: 0.0)
    pieces = [*chunks(data)]
    for piece in pieces:
        recording.received(b"\x1b\x0d\x00" + piece)
    recording.finish(None)
    rows = [json.loads(line) for line in lines]
    received = [bytes.fromhex(row["rx"])[3:] for row in rows if "rx" in row]
    stream = b"".join(received)
    assert len(received) == len(pieces)
    assert all(len(one) <= len(piece) for one, piece in zip(received, pieces, strict=True))
    for order in (MAC[3:], MAC[:2:-1]):
        assert order not in stream
        assert order.hex().encode() not in stream.lower()


def recording(data: bytes) -> None:
    """Read a hostile recording: it is refused with a place, or can be replayed."""
    complaint = "x.jsonl:"
    try:
        for session in parse_sessions(data.decode("utf-8", "replace"), "x.jsonl"):
            read_attempts(session.events)
    except RecordingError as error:
        complaint = str(error)
    assert complaint.startswith("x.jsonl:")


# --- protocol/advertisement.py


def advertisement(data: bytes) -> None:
    """Judge an advertisement: services in the first byte, name, NUL, manufacturer data."""
    name, _, rest = data[1:].partition(b"\0")
    services = {FF00} if data[:1] < b"\x80" else {FFF0}
    seen = Advertisement(
        address=ADDRESS if len(rest) % 2 else "00:11:22:33:44:55",
        name=name.decode("utf-8", "replace"),
        rssi_dbm=-60,
        service_uuids=frozenset(services),
        manufacturer_data={
            int.from_bytes(one[:2], "little"): one[2:] for one in chunks(rest) if one[1:]
        },
    )
    reasons = why_jbd(seen)
    assert len(reasons) != 1  # the service alone is no reason
    certain = is_certain(seen)
    assert reasons or not certain
    if certain:
        (battery,) = loader.parse(scan_yaml([Finding(advertisement=seen)])).batteries
        assert battery.address == seen.address


# --- config/ and web/tls.py


Sections = dict[str, dict[str, str]]

GOOD_HASH: Final = "$2b$04$" + "a" * 53
USUAL: Final[Sections] = {
    "battery": {"name": "a", "address": "A4:C1:38:12:34:56"},
    "second": {"name": "b", "address": "A4:C1:38:12:34:57"},
    "poll": {"timeout": "10s"},
    "management": {},
    "": {},
}
USUAL_WEB: Final[Sections] = {
    "tls_server_config": {"cert_file": "camper.crt", "key_file": "camper.key"},
    "http_server_config": {"http2": "true"},
    "headers": {"X-Frame-Options": "deny"},
    "basic_auth_users": {"alice": GOOD_HASH},
    "rate_limit": {"interval": "1s", "burst": "20"},
    "": {},
}
BATTERY_KEYS: Final = (
    "name", "address", "adapter", "link", "profile", "cells", "hardware", "counters",
    "password_file", "password_env",
)  # fmt: skip
KEYS: Final[Mapping[str, Sequence[str]]] = {
    "battery": BATTERY_KEYS,
    "second": BATTERY_KEYS,
    "poll": tuple(schema.RANGES_S),
    "management": ("release", "parameters", "power", "rssi"),
    "tls_server_config": webconfig.KEYS["tls_server_config"],
    "http_server_config": webconfig.KEYS["http_server_config"],
    "headers": tuple(webconfig.HEADERS),
    "basic_auth_users": ("alice", "bob", "[]", '""', '"a:b"', '"\\ud800"'),
    "rate_limit": webconfig.KEYS["rate_limit"],
    "": ("link", "batteries", "poll", "rate_limit", "tls_server_config", "x", "&a y", "[]", "?"),
}
VALUES: Final = (
    "", "null", "a", '""', "true", "no", "0", "-1", "20", "10s", "1h30m", "500ms", "1:1:1", ".nan",
    ".inf", "1e400", "0x" + "f" * 3600, "9" * 400 + "h", "1" + ":1" * 500, "!!int x",
    "!!float _", "!!bool a", "!!binary a", "!!python/name:os.system", "2026-01-01", "é", "[]", "{}",
    "[a, b]", "{a: b}", "[[[]]]", "&b [*b]", "&c c", "*c", "<<", '"\\ud800"', '"a\\0b"',
    '"a\\r\\nb"', '"\\u2028"', "x" * 500, "camper.crt", "camper.key", "ca.crt", "missing", ".",
    "hci0", "direct", "bluez", "ff00", "A4:C1:38:12:34:56", "11:22:33:44:55:66", GOOD_HASH,
    *(name for name in CLIENT_AUTH if name), *VERSIONS,
    *(f"[{name}]" for name in (*CURVES, *CIPHERS)),
    '"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"',
)  # fmt: skip


def _made(data: bytes, usual: Sections) -> str:
    """Return a nearly valid file: three bytes choose a section, a key and a value."""
    made = {name: dict(section) for name, section in usual.items()}
    for section, key, value in zip(data[::3], data[1::3], data[2::3], strict=False):
        name = list(usual)[section % len(usual)]
        made[name][KEYS[name][key % len(KEYS[name])]] = VALUES[value % len(VALUES)]
    flow = {
        name: ", ".join(f"{key}: {value}" for key, value in section.items())
        for name, section in made.items()
    }
    top = flow.pop("").replace(", ", "\n")
    if "battery" in flow:
        top += f"\nbatteries: [{{{flow.pop('battery')}}}, {{{flow.pop('second')}}}]"
    else:
        flow["http_server_config"] += f", headers: {{{flow.pop('headers')}}}"
    return "".join(f"{name}: {{{text}}}\n" for name, text in flow.items()) + top


def config(data: bytes) -> None:
    """Parse a configuration file."""
    _config(data.decode("utf-8", "ignore"))


def config_made(data: bytes) -> None:
    """Parse a nearly valid configuration file."""
    _config(_made(data, USUAL))


def _config(text: str) -> None:
    try:
        read = loader.parse(text)
    except ConfigError as error:
        _complaints(error, len(text))
        return
    assert isinstance(read, Config)
    assert read.batteries
    assert len({battery.address for battery in read.batteries}) == len(read.batteries)
    for battery in read.batteries:
        assert schema.normal_name(battery.name) == battery.name
        assert schema.normal_address(battery.address) == battery.address
    assert 1 <= read.poll.timeout_s <= 600


def web_config(data: bytes) -> None:
    """Parse a web configuration file, and load the certificates that it names."""
    _web_config(data.decode("utf-8", "ignore"))


def web_config_made(data: bytes) -> None:
    """Parse a nearly valid web configuration file."""
    _web_config(_made(data, USUAL_WEB))


def _web_config(text: str) -> None:
    folder = _folder()
    try:
        read = webconfig.parse(text, folder)
        for name, value in (*read.headers, *read.users):
            assert "\r" not in value
            assert "\n" not in value
            (name + value).encode()
        assert float(read.rate_burst) >= 0
        tls = read.tls
        if tls is not None and all(path.is_relative_to(folder) for path in tls.files):
            make_tls(tls)
    except ConfigError as error:
        _complaints(error, len(text))


def _complaints(error: ConfigError, size: int) -> None:
    """Check that the messages to the user are printable and limited."""
    assert error.problems
    text = "\n".join(error.problems)
    text.encode()
    assert len(text) < 1_000_000 + 500 * size


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="bms-fuzz-")
    _folders.append(folder)  # deleted when the process ends
    path = Path(folder.name)
    authority = trustme.CA()
    issued = authority.issue_cert("camper")
    issued.private_key_pem.write_to_path(path / "camper.key")
    issued.cert_chain_pems[0].write_to_path(path / "camper.crt")
    authority.cert_pem.write_to_path(path / "ca.crt")
    hashed = bcrypt.hashpw(USER[1].encode(), bcrypt.gensalt(4)).decode()
    (path / "web.yml").write_text(
        f"basic_auth_users: {{{USER[0]}: '{hashed}'}}\n"
        "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    )
    return path


_folders: list[tempfile.TemporaryDirectory[str]] = []


# --- web/

USER: Final = ("alice", "hunter2")


class Request(NamedTuple):
    """A request that Tornado's parser accepts."""

    start: RequestStartLine
    headers: HTTPHeaders
    body: bytes


class Camper:
    """A battery whose snapshot never changes."""

    def __init__(self, name: str) -> None:
        self._name = name

    is_fresh = False

    def show(self) -> Snapshot:
        """Fail: `is_fresh` is false, so a scrape refreshes."""
        raise AssertionError

    async def refresh(self, *, timeout_s: float | None = None) -> Snapshot:
        """Return a snapshot without a reading."""
        assert timeout_s is None or 0 <= timeout_s < float("inf")
        return Snapshot(
            battery=self._name,
            address=ADDRESS,
            up=False,
            reading=None,
            identity=None,
            rssi_dbm=None,
            poll_duration_s=None,
            poll_timeout_s=0,
            polls=0,
            failures={},
            last_error=None,
            link=LinkTotals(),
        )


class Surface:
    """The application with two batteries, once open and once with a password."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.reloads = 0
        batteries: Any = {name: Camper(name) for name in ("camper", 'a "<b>" ä')}
        access = Access(webconfig.WebConfigFile(_folder() / "web.yml").current)
        self.open = make_app(batteries=batteries, reload=self._reload)
        self.protected = make_app(batteries=batteries, reload=self._reload, access=access)

    async def _reload(self) -> Sequence[str]:
        self.reloads += 1
        return ()

    def send(self, app: App, request: Request) -> FakeConnection:
        """Return the response; fail if a handler raised an exception."""
        bugs = _Bugs()
        log = logging.getLogger("tornado.application")
        log.addHandler(bugs)
        try:
            return self.loop.run_until_complete(_respond(app, request))
        finally:
            log.removeHandler(bugs)
            assert not bugs.messages, bugs.messages


@cache
def _surface() -> Surface:
    return Surface()


class _Bugs(logging.Handler):
    """Collects the exceptions of handlers, which Tornado logs and answers with 500."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message and the traceback."""
        self.messages.append(logging.Formatter().format(record))


def _parsed(data: bytes) -> Request | None:
    head, _, body = data.partition(b"\r\n\r\n")
    first, _, rest = head.decode("latin-1").partition("\n")
    try:
        start = parse_request_start_line(first.rstrip("\r"))
        return Request(start, HTTPHeaders.parse(rest), body)
    except HTTPInputError:
        return None


def http(data: bytes) -> None:
    """Send the application a request that Tornado's parser accepts."""
    request = _parsed(data)
    if request is None:
        return
    surface = _surface()
    before = surface.reloads
    try:
        answer = surface.send(surface.open, request)
    except HTTPInputError:  # no Host or two of them: Tornado closes the connection
        return
    _check_status(request, answer.status)
    if surface.reloads != before:
        site = request.headers.get("Sec-Fetch-Site", "none")
        assert request.start.method in ("POST", "PUT")
        assert site == "none"
        assert "Origin" not in request.headers
    before = surface.reloads
    answer = surface.send(surface.protected, request)
    _check_status(request, answer.status)
    assert answer.headers["X-Frame-Options"] == "deny"
    if not _has_password(request):
        assert answer.status in (401, 405)
        assert b"bms_" not in answer.body
        assert surface.reloads == before


def _check_status(request: Request, status: int) -> None:
    assert status in (200, 400, 401, 403, 404, 405), (request, status)


def _has_password(request: Request) -> bool:
    """Whether a word of the header decodes to it: base64 spells the same bytes in several ways."""
    wanted = ":".join(USER).encode()
    for word in request.headers.get("Authorization", "").split():
        with suppress(ValueError):
            if wanted in base64.b64decode(word):
                return True
    return False


async def _respond(app: App, request: Request) -> FakeConnection:
    connection, delegate, ready = send_head(app, *request.start[:2], request.headers)
    if ready is not None:
        await ready
    if request.body:
        delegate.data_received(request.body)
    delegate.finish()
    await connection.finished.wait()
    assert int(connection.headers["Content-Length"]) == len(connection.body) or (
        request.start.method == "HEAD"
    )
    return connection


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "frame": frame,
    "decode": decode,
    "paste": paste,
    "auth": auth,
    "att": att,
    "recorder": recorder,
    "recording": recording,
    "advertisement": advertisement,
    "config": config,
    "config-made": config_made,
    "webconfig": web_config,
    "webconfig-made": web_config_made,
    "http": http,
}
