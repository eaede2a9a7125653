"""A bleak client over the kernel's ATT channel, instead of bluetoothd."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from bleak.args import SizedBuffer
from bleak.assigned_numbers import CharacteristicPropertyName
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError

from exporter.ble.direct import sockets
from exporter.ble.direct.att import (
    SUBSCRIBE,
    Answer,
    Att,
    AttError,
    Event,
    Handles,
    Notification,
    Reaction,
    Table,
    checked,
    discover,
    write_command,
    write_request,
)
from exporter.errors import AdapterError, NotFoundError, PairingError
from exporter.protocol.profiles import PROFILES

log = logging.getLogger(__name__)

# The specification gives a server 30 s; a battery that needs more than this is not answering.
ANSWER_S: Final = 5.0
LONGEST_PDU: Final = 1024
# The kernel keeps a connection that nobody uses for 2 s, and a lost one until its supervision
# timeout, which is 4 s at most with our parameters.
LET_GO_S: Final = 8.0
LOOK_EVERY_S: Final = 0.05

# What a connection, and an attempt that fails, keeps the others waiting for.
CONNECTION_S: Final = 1.0
FAILED_CONNECTION_S: Final = 4.0
# How long the kernel may take to call an attempt to connect off.
CALLED_OFF_S: Final = 0.1
# The two highest bits of a static random address are set; a private one changes by itself.
FIRST_STATIC: Final = "C0"

T = TypeVar("T")
Open = Callable[[str, int, str], Awaitable[socket.socket]]


@dataclass(slots=True)
class Memory:
    """What earlier connections to one battery taught; it is verified in use."""

    address_type: int | None = None
    less_likely: int | None = None  # what the last time in vain was begun with
    table: Table | None = None


@dataclass(slots=True, kw_only=True)
class Kernel:
    """The kernel's side of one adapter; tests bring another."""

    adapter: str | None = None  # hci0 and the like; None: the first one that is switched on
    open_channel: Open = sockets.open_att_channel
    adapters: Callable[[], list[sockets.Adapter]] = sockets.adapters
    connected_on: Callable[[str], int | None] = sockets.connected_on
    memories: dict[str, Memory] = field(default_factory=dict)  # by the battery's address
    reached: dict[str, Callable[[], None]] = field(default_factory=dict)  # to be told, by address
    waiting: set[asyncio.Timeout] = field(default_factory=set)  # for a battery to advertise

    def forget(self, address: str) -> None:
        """Forget the GATT table of a battery."""
        if address in self.memories:
            self.memories[address].table = None

    @asynccontextmanager
    async def patience(self, seconds: float) -> AsyncIterator[None]:
        """Wait this long for a battery, and longer for every connection to another one.

        The kernel makes one connection after the other.

        Raises:
            TimeoutError: It did not come.
        """
        async with asyncio.timeout(seconds) as waiting:
            self.waiting.add(waiting)
            took_s = 0.0  # called off: the kernel has not tried
            try:
                yield
                took_s = CONNECTION_S
            except OSError:
                took_s = FAILED_CONNECTION_S
                raise
            finally:
                self.waiting.discard(waiting)
                for other in self.waiting:
                    until_s = other.when()
                    if until_s is not None and not other.expired():
                        other.reschedule(until_s + took_s)

    def ready(self, address: str) -> sockets.Adapter:
        """Return the adapter to use.

        Raises:
            AdapterError: It is not there, or switched off.
        """
        try:
            present = self.adapters()
        except OSError as error:
            raise AdapterError(
                f"no Bluetooth sockets ({error.strerror}): set link: bluez"
            ) from error
        named = [one for one in present if self.adapter in (None, one.name)]
        for one in named:
            if one.up:
                return one
        if named:
            raise AdapterError(
                f"{named[0].name} is switched off: run bluetoothctl power on, or rfkill unblock "
                f"bluetooth (connect to {address})"
            )
        have = ", ".join(one.name for one in present) or "none"
        raise AdapterError(
            f"no Bluetooth adapter{f' {self.adapter}' if self.adapter else ''}: is it plugged in? "
            f"Present: {have} (connect to {address})"
        )


def client_of(kernel: Kernel) -> type[BaseBleakClient]:
    """Return the class that bleak takes instead of its own."""

    class DirectClient(_Client):
        _kernel = kernel

    return DirectClient


class _Client(BaseBleakClient):
    _kernel: ClassVar[Kernel]

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        *,
        disconnected_callback: Callable[[], None] | None,
        timeout: float,
        **options: Any,
    ) -> None:
        super().__init__(
            address_or_ble_device,
            disconnected_callback=disconnected_callback,
            timeout=timeout,
            **options,
        )
        self._memory = self._kernel.memories.setdefault(self.address, Memory())
        self._socket: socket.socket | None = None
        self._att = Att()
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[bytes] | None = None
        self._callbacks: dict[int, NotifyCallback] = {}
        self._subscribed = False
        self._heard = False  # a notification

    @property
    def name(self) -> str:
        return self.address

    @property
    def mtu_size(self) -> int:
        return self._att.mtu

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        """Connect as soon as the battery advertises; learn its GATT table if it is not known.

        Raises:
            NotFoundError: It did not advertise in time.
            AdapterError: There is no adapter.
            BleakError: The attempt to connect failed.
        """
        timeout_s = kwargs.get("timeout", self._timeout)
        self._socket = await self._reach(self._kernel.ready(self.address), timeout_s)
        self._kernel.reached.get(self.address, lambda: None)()
        self._att = Att()
        self._heard = False
        asyncio.get_running_loop().add_reader(self._socket, self._readable, self._socket)
        try:
            self.services = _collection(await self._table())
        except BaseException:
            self._end()
            raise

    async def _reach(self, adapter: sockets.Adapter, timeout_s: float) -> socket.socket:
        """Wait for the battery under the kind of address that it has, or under one and the other.

        Never under both at once: when one of the two is called off, Linux 6.1 was seen to lose
        count of its attempts and to connect to nothing more until the adapter is reset.
        """
        known = self._memory.address_type
        likely = sockets.RANDOM if self.address >= FIRST_STATIC else sockets.PUBLIC
        if self._memory.less_likely is not None:
            likely = _other_type(self._memory.less_likely)
        other = _other_type(likely)
        kinds = (likely, other) if known is None else (known,)
        for kind in kinds:
            try:
                async with self._kernel.patience(timeout_s / len(kinds)):
                    reached = await self._kernel.open_channel(self.address, kind, adapter.address)
            except TimeoutError:
                await asyncio.sleep(CALLED_OFF_S)
            except OSError as error:
                raise _refused(self.address, error) from None
            else:
                self._memory.address_type = kind
                return reached
        self._memory.less_likely = likely
        raise NotFoundError(
            f"{self.address} not seen in {timeout_s:.0f} s: is it switched on and in range, "
            "and is the phone app disconnected?"
        )

    async def _table(self) -> Table:
        if self._memory.table is not None:
            return self._memory.table
        table = await self._discover()
        if table.profiles:  # else it may have been an odd moment: look again the next time
            self._memory.table = table
        return table

    async def _discover(self) -> Table:
        found = await self._run(discover(PROFILES))
        log.debug("discovered", extra={"address": self.address, "table": found})
        return found

    async def disconnect(self) -> None:
        """Let go; return when the kernel has."""
        if self._socket is None:
            return
        self._end()
        async with asyncio.timeout(LET_GO_S):
            while self._kernel.connected_on(self.address) is not None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_EVERY_S)

    async def pair(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    async def unpair(self) -> None:
        raise NotImplementedError

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, **kwargs: Any
    ) -> bytearray:
        raise NotImplementedError

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, **kwargs: Any
    ) -> bytearray:
        raise NotImplementedError

    async def write_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, data: SizedBuffer
    ) -> None:
        raise NotImplementedError

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool
    ) -> None:
        handles = self._handles(characteristic)
        if response:
            await self._request(write_request(handles.write, bytes(data)))
        else:
            await self._send(write_command(handles.write, bytes(data)))

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **kwargs: Any
    ) -> None:
        """Subscribe; discover again if the remembered handles are refused."""
        try:
            await self._subscribe(self._handles(characteristic), callback)
        except AttError as error:
            if error.wants_pairing:
                raise PairingError(f"the battery wants pairing first ({error})") from error
            log.debug("handles are discovered again", extra={"error": str(error)})
            self._memory.table = await self._discover()
            try:
                await self._subscribe(self._handles(characteristic), callback)
            except AttError as again:
                raise BleakError(str(again)) from again

    async def _subscribe(self, handles: Handles, callback: NotifyCallback) -> None:
        self._callbacks = {handles.notify: callback}
        pdu = write_request(handles.subscription, SUBSCRIBE)
        checked(await self._exchange(pdu))
        self._subscribed = True

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        raise NotImplementedError

    def _handles(self, characteristic: BleakGATTCharacteristic) -> Handles:
        """Return what is known now of the profile that a characteristic belongs to."""
        profiles: Mapping[str, Handles] = self._memory.table.profiles if self._memory.table else {}
        for name, handles in profiles.items():
            if characteristic.uuid in (PROFILES[name].notify, PROFILES[name].write):
                return handles
        raise BleakError(f"{characteristic.uuid} is not there any more")

    async def _run(self, procedure: Generator[bytes, bytes, T]) -> T:
        """Carry out a procedure of several requests."""
        try:
            pdu = next(procedure)
            while True:
                pdu = procedure.send(await self._exchange(pdu))
        except StopIteration as done:
            result: T = done.value
            return result
        except AttError as error:
            if error.wants_pairing:
                raise PairingError(f"the battery wants pairing first ({error})") from error
            raise BleakError(str(error)) from error

    async def _request(self, pdu: bytes) -> None:
        try:
            checked(await self._exchange(pdu))
        except AttError as error:
            raise BleakError(str(error)) from error

    async def _exchange(self, pdu: bytes) -> bytes:
        """Send one request and return its answer, be it a refusal.

        Raises:
            BleakError: The connection ended, or no answer came: after that it must not be used.
        """
        async with self._turn:
            self._answer = asyncio.get_running_loop().create_future()
            try:
                await self._send(self._att.request(pdu))
                async with asyncio.timeout(ANSWER_S):
                    return await self._answer
            except TimeoutError:
                self._memory.table = None
                self._end()
                raise BleakError(f"no answer to ATT request {pdu[0]:#04x}") from None
            finally:
                self._answer = None

    async def _send(self, pdu: bytes) -> None:
        if self._socket is None:
            raise BleakError("not connected")
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, pdu)
        except OSError as error:
            raise BleakError(f"send: {error.strerror}") from error

    def _readable(self, sock: socket.socket) -> None:
        try:
            pdu = sock.recv(LONGEST_PDU)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        if not pdu:
            self._lost("the battery ended the connection")
            return
        for event in self._att.receive(pdu):
            if not self._take(event, sock):
                return

    def _take(self, event: Event, sock: socket.socket) -> bool:
        """Act on what the battery sent; return whether the connection goes on."""
        match event:
            case Notification(handle, value):
                if callback := self._callbacks.get(handle):
                    self._heard = True
                    callback(bytearray(value))
            case Answer(answer):
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(answer)
            case Reaction(reaction):
                return self._react(sock, reaction)
        return True

    def _react(self, sock: socket.socket, reaction: bytes) -> bool:
        """Answer the battery's own question; return whether the connection goes on."""
        try:
            sock.send(reaction)
        except OSError as error:  # it ended, or asks without end and does not listen
            self._lost(error.strerror or str(error))
            return False
        return True

    def _lost(self, why: str) -> None:
        log.debug("connection ended", extra={"address": self.address, "error": why})
        self._end()
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    def _end(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._subscribed and not self._heard:
            self._memory.table = None  # perhaps nobody lives behind these handles any more
        self._subscribed = False
        self._callbacks = {}
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BleakError("the connection ended"))


def _other_type(address_type: int) -> int:
    return sockets.PUBLIC if address_type == sockets.RANDOM else sockets.RANDOM


def _refused(address: str, error: OSError) -> BleakError | AdapterError:
    if error.errno in (errno.EHOSTUNREACH, errno.ENODEV, errno.ENETDOWN):
        return AdapterError(f"the Bluetooth adapter went away (connect to {address})")
    if error.errno == errno.EBUSY:
        return BleakError("another program on this machine is connected to it")
    return BleakError(error.strerror or str(error))


def _collection(table: Table) -> BleakGATTServiceCollection:
    """Return the table in bleak's words; only what is wanted has characteristics."""
    collection = BleakGATTServiceCollection()
    by_service = {
        PROFILES[name].service: (PROFILES[name], handles)
        for name, handles in table.profiles.items()
    }
    for number, uuid in enumerate(dict.fromkeys(table.services)):
        service = BleakGATTService(None, number, uuid)
        collection.add_service(service)
        if uuid not in by_service:
            continue
        profile, handles = by_service[uuid]
        properties: list[CharacteristicPropertyName] = []
        if handles.can_write_command:
            properties.append("write-without-response")
        if handles.can_write:
            properties.append("write")
        for handle, name, can in (
            (handles.notify, profile.notify, ["notify"]),
            (handles.write, profile.write, properties),
        ):
            collection.add_characteristic(
                BleakGATTCharacteristic(None, handle, name, can, lambda: 20, service)  # type: ignore[arg-type]
            )
    return collection
