"""The peer of the direct link: a GATT server over a socket pair, in front of a virtual battery."""

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import PUBLIC, Adapter
from exporter.demo.battery import Delivery, VirtualBattery
from tests.support.air_faults import ENDED_BY_BATTERY, LOST, NOT_ESTABLISHED, AirFaults

HCI0 = Adapter(0, "00:1B:DC:0F:AA:01", up=True)
SERVER_MTU = 247
ERRNO = {  # of HCI errors: net/bluetooth/lib.c
    NOT_ESTABLISHED: errno.ENOSYS,
    LOST: errno.ETIMEDOUT,
    ENDED_BY_BATTERY: errno.ECONNRESET,
}
KERNELS_INTERVAL_MS = 50.0
PROPERTIES = {"write-without-response": 0x04, "write": 0x08}


def wire(uuid: str) -> bytes:
    """Return a UUID in little-endian bytes: two for a short UUID, else 16."""
    raw = bytes.fromhex(uuid.replace("-", ""))[::-1]
    return raw[12:14] if uuid.endswith("-0000-1000-8000-00805f9b34fb") else raw


@dataclass(frozen=True, slots=True)
class Attribute:
    kind: bytes  # its type, a UUID
    value: bytes
    end: int = 0  # last handle of a service


@dataclass(slots=True, kw_only=True)
class AttServer:
    """The GATT server of one battery for one connection."""

    battery: VirtualBattery
    sock: socket.socket
    first_handle: int = 1
    refuse: dict[int, int] = field(default_factory=dict)  # request opcode -> error code
    deaf_to: set[int] = field(default_factory=set)
    needs_mtu: bool = False  # answers nothing before the exchange of the MTU
    mtu: int = 23  # what the battery notifies beyond it is cut off
    table: dict[int, Attribute] = field(default_factory=dict)
    received: list[bytes] = field(default_factory=list)
    subscribed: bool = False
    notify: int = 0
    write: int = 0
    cccd: int = 0
    ended_s: float | None = None  # by the loop's clock

    def __post_init__(self) -> None:
        at = self.first_handle
        self.table[at] = Attribute(wire("00002800-0000-1000-8000-00805f9b34fb"), b"\x00\x18", at)
        at += 1
        for profile in self.battery.gatt:
            start, notify, cccd, write = at, at + 2, at + 3, at + 5
            properties = sum(PROPERTIES[name] for name in self.battery.write_properties)
            self.table[start] = Attribute(b"\x00\x28", wire(profile.service), write)
            self._declare(notify, 0x10, profile.notify)
            self.table[cccd] = Attribute(b"\x02\x29", b"\x00\x00")
            self._declare(write, properties, profile.write)
            if profile == self.battery.speaks:
                self.notify, self.cccd, self.write = notify, cccd, write
            at = write + 1

    def _declare(self, value: int, properties: int, uuid: str) -> None:
        raw = wire(uuid)
        declaration = bytes([properties]) + value.to_bytes(2, "little") + raw
        self.table[value - 1] = Attribute(b"\x03\x28", declaration)
        self.table[value] = Attribute(raw, b"")

    def start(self) -> None:
        self.sock.setblocking(False)  # noqa: FBT003 - its interface
        asyncio.get_running_loop().add_reader(self.sock, self._readable)
        self.deliver(self.battery.connected())

    def drop(self) -> None:
        loop = asyncio.get_running_loop()
        if self.ended_s is None:
            self.ended_s = loop.time()
            loop.remove_reader(self.sock)
            self.sock.close()

    def send(self, pdu: bytes) -> None:
        if self.sock.fileno() >= 0:
            self.sock.send(pdu)

    def deliver(self, notifications: list[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        for one in notifications:
            loop.call_later(one.after_s, self._notify, one.data)

    def _notify(self, data: bytes | None) -> None:
        if data is None:
            self.drop()
        elif self.subscribed and self.sock.fileno() >= 0:
            self.send(b"\x1b" + self.notify.to_bytes(2, "little") + data[: self.mtu - 3])

    def _readable(self) -> None:
        pdu = self.sock.recv(1024)
        if not pdu:
            self.battery.disconnects += 1
            self.drop()
            return
        self.received.append(pdu)
        if pdu[0] == 0x02:
            self.needs_mtu = False
        if pdu[0] in self.deaf_to or self.needs_mtu:
            return
        answer = self._answer(pdu)
        if answer:
            self.send(answer)

    def _answer(self, pdu: bytes) -> bytes:  # noqa: C901, PLR0911 - one a request
        opcode, handle = pdu[0], int.from_bytes(pdu[1:3], "little")
        if opcode in self.refuse:
            return bytes([1, opcode]) + pdu[1:3] + bytes([self.refuse[opcode]])
        match opcode:
            case 0x02:
                self.mtu = min(handle, SERVER_MTU)
                return b"\x03" + SERVER_MTU.to_bytes(2, "little")
            case 0x10 | 0x08:
                return self._read(opcode, handle, int.from_bytes(pdu[3:5], "little"), pdu[5:])
            case 0x04:
                return self._information(handle, int.from_bytes(pdu[3:5], "little"))
            case 0x12 | 0x52:
                if handle == self.write:
                    if not self.battery.takes(response=opcode == 0x12):
                        return b"" if opcode == 0x52 else bytes([1, opcode, *pdu[1:3], 0x03])
                    now_s = asyncio.get_running_loop().time()
                    self.deliver(self.battery.request(pdu[3:], now_s))
                elif self.table.get(handle, Attribute(b"", b"")).kind != b"\x02\x29":
                    return b"" if opcode == 0x52 else bytes([1, opcode, *pdu[1:3], 0x01])
                elif handle == self.cccd:
                    self._subscribe(pdu[3:])
                return b"" if opcode == 0x52 else b"\x13"
            case 0x1E | 0x03 | 0x01:
                return b""
        return bytes([1, opcode, 0, 0, 0x06])

    def _subscribe(self, value: bytes) -> None:
        self.subscribed = value == b"\x01\x00"
        kept = self.battery.subscribed()
        if self.battery.faults.leftover_s:
            self.deliver(kept)
            return
        for one in kept:
            self._notify(one.data)  # before the response

    def _read(self, opcode: int, start: int, end: int, kind: bytes) -> bytes:
        """Respond with as many entries of equal size as fit into 23 bytes."""
        entries: list[bytes] = []
        for handle, attribute in sorted(self.table.items()):
            if not (start <= handle <= end and attribute.kind == kind):
                continue
            entry = handle.to_bytes(2, "little")
            if opcode == 0x10:
                entry += attribute.end.to_bytes(2, "little")
            entry += attribute.value
            if entries and (
                len(entry) != len(entries[0]) or sum(map(len, entries)) > 21 - len(entry)
            ):
                break
            entries.append(entry)
        if not entries:
            return bytes([1, opcode]) + start.to_bytes(2, "little") + b"\x0a"
        return bytes([opcode + 1, len(entries[0])]) + b"".join(entries)

    def _information(self, start: int, end: int) -> bytes:
        found = [(h, a.kind) for h, a in sorted(self.table.items()) if start <= h <= end]
        if not found:
            return bytes([1, 4]) + start.to_bytes(2, "little") + b"\x0a"
        handle, kind = found[0]
        return bytes([5, 1 if len(kind) == 2 else 2]) + handle.to_bytes(2, "little") + kind


def make_scanning(adapter: Adapter = HCI0) -> Callable[[], list[Adapter]]:
    """Return `Kernel.adapters` of an adapter that scans: its counters grow."""
    calls = itertools.count()

    def adapters() -> list[Adapter]:
        number = next(calls)
        return [replace(adapter, commands_sent=number, events_received=number)]

    return adapters


@dataclass(slots=True)
class Air:
    """Batteries in range of a simulated kernel."""

    batteries: dict[str, VirtualBattery]
    address_type: int = PUBLIC
    adapters: list[Adapter] = field(default_factory=lambda: [HCI0])
    options: dict[str, object] = field(default_factory=dict)  # arguments of the next servers
    servers: list[AttServer] = field(default_factory=list)
    attempts: list[tuple[int, str]] = field(default_factory=list)  # address type, adapter
    connections: list[tuple[str, int]] = field(default_factory=list)  # of others
    connected_devices: list[str] = field(default_factory=list)
    errors: list[OSError] = field(default_factory=list)  # raised by the next attempts
    faults: AirFaults = field(default_factory=lambda: AirFaults(advertise_ms=10))
    interval_ms: float = KERNELS_INTERVAL_MS  # of the next connections
    _failing: list[int] = field(default_factory=list)
    _connecting: int = 0

    def set_faults(self, **faults: Any) -> None:
        """Replace all faults of the radio."""
        self.faults = AirFaults(**{"advertise_ms": 10} | faults)
        self._failing = self.faults.failing()

    def make_kernel(self) -> Kernel:
        return Kernel(
            open_channel=self._open,
            adapters=lambda: self.adapters,
            connected_on=self._connected_on,
            connections=lambda _: self.connections,
            connected_devices=lambda _: self.connected_devices,
        )

    def _connected_on(self, address: str) -> int | None:
        connected = any(
            server.battery.address == address and server.sock.fileno() >= 0
            for server in self.servers
        )
        return 0 if connected else None

    async def _open(self, address: str, address_type: int, adapter: str) -> socket.socket:
        self.attempts.append((address_type, adapter))
        if self.errors:
            raise self.errors.pop(0)
        battery = self.batteries[address]
        if self.faults.stuck:
            await asyncio.Event().wait()
        if not self.faults.deaf:
            self._count(commands=4, events=4)  # of a scan, as measured with Linux
        while True:
            await asyncio.sleep(self.faults.advertise_ms / 1000)
            if self.faults.deaf:
                self._count(commands=1, events=0)
            elif address_type == self.address_type and self._advertises(battery):
                break
        if battery.faults.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        await self._establish()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - its interface
        options = {"needs_mtu": self.faults.needs_mtu} | self.options
        server = AttServer(battery=battery, sock=theirs, **options)  # type: ignore[arg-type]
        self.servers.append(server)
        server.start()
        if self.interval_ms < self.faults.min_interval_ms:
            asyncio.get_running_loop().call_later(0.02, server.drop)
        return ours

    def _count(self, *, commands: int, events: int) -> None:
        self.adapters = [
            replace(
                one,
                commands_sent=one.commands_sent + commands,
                events_received=one.events_received + events,
            )
            for one in self.adapters
        ]

    def _advertises(self, battery: VirtualBattery) -> bool:
        now_s = asyncio.get_running_loop().time()
        gap_s = self.faults.gap_after_disconnect_s
        ended = [one.ended_s for one in self.servers if one.battery is battery]
        is_silent = any(end_s is None or now_s < end_s + gap_s for end_s in ended)
        return battery.advertising and not is_silent

    async def _establish(self) -> None:
        """Make a connection, which takes a moment. Raises OSError as the kernel would."""
        is_second = self._connecting > 0
        self._connecting += 1
        try:
            await asyncio.sleep(0.01)
        finally:
            self._connecting -= 1
        connected = sum(server.ended_s is None for server in self.servers)
        number = None
        if is_second and self.faults.reject_second:
            number = errno.EPROTO
        elif self.faults.slots and connected >= self.faults.slots:
            number = errno.ECONNREFUSED
        elif self._failing:
            number = ERRNO[self._failing.pop(0)]
        if number is not None:
            raise OSError(number, os.strerror(number))
