"""One battery that a proxy connects to: its requests, each with a time limit."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from aioesphomeapi import api_pb2
from aioesphomeapi.core import APIConnectionError, TimeoutAPIError
from aioesphomeapi.model import BluetoothGATTService

from exporter.ble.proxy.errors import explain_connect, explain_gatt, tidy
from exporter.ble.proxy.raw import format_address
from exporter.ble.proxy.session import Session
from exporter.ble.proxy.table import Handles
from exporter.ble.timeouts import leave_behind
from exporter.errors import Cause, ConnectError

# Its class is made when it is imported, so that mypy does not know it.
TableReply: Any = api_pb2.BluetoothGATTGetServicesResponse  # type: ignore[attr-defined]

ATTEMPT_S: Final = 10.0  # the ESP32 itself gives up after 20 s
TABLE_S: Final = 8.0
ANSWER_S: Final = 5.0
DISCONNECT_S: Final = 3.0
MAX_TABLE: Final = 100_000  # bytes of the proxy's replies; an ESP32 has no memory for more
SUBSCRIBE: Final = b"\x01\x00"
MAX_VALUE: Final = 512  # bytes of a characteristic (Core Specification, Vol 3, Part F, 3.2.9)


class Peripheral:
    """A connection of a proxy to one battery."""

    def __init__(self, session: Session, address: int, address_type: int) -> None:
        self.session = session
        self.is_connected = False
        self.on_lost: list[Callable[[], None]] = []
        self._address = address
        self._address_type = address_type
        self._is_released = False
        self._has_ended = False
        self._code = 0  # of the last change of the connection
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._forget: Callable[[], None] = lambda: None

    async def connect(self) -> None:
        """Make the connection, and let the proxy read the GATT table.

        Raises:
            AdapterError: The API connection ended.
            ConnectError: The battery did not answer, or refused.
        """
        session, address = self.session, self._address
        session.connected.add(address)
        try:
            self._forget = await session.run(
                session.client.bluetooth_device_connect(
                    address,
                    self._changed,
                    timeout=ATTEMPT_S,
                    disconnect_timeout=DISCONNECT_S,
                    feature_flags=session.flags,
                    address_type=self._address_type,
                )
            )
        except TimeoutAPIError as error:
            raise ConnectError(
                f"connect to {format_address(address)} by proxy {session.name}: no answer in "
                f"{ATTEMPT_S:g} s"
            ) from error
        except APIConnectionError as error:
            raise ConnectError(f"connect by proxy {session.name}: {tidy(error)}") from error
        except asyncio.CancelledError:
            if self.is_connected:  # just now
                self._release()
                self.is_connected = False
            raise
        finally:
            session.slots.note_asked(address, is_connected=self.is_connected)
            if not self.is_connected:
                self._end()
        if not self.is_connected and not self._code and session.slots.free == 0:
            raise ConnectError(f"the proxy {session.name} has no free connection")
        if not self.is_connected:
            raise explain_connect(format_address(address), session.name, self._code)

    async def read_table(self, deadline_s: float) -> Sequence[BluetoothGATTService]:
        """Return the GATT table. Raises BmsError if it cannot be read by the deadline."""
        doing = f"GATT table of {format_address(self._address)} by proxy {self.session.name}"
        client = self.session.client
        now_s = asyncio.get_running_loop().time
        limit = asyncio.timeout_at(min(deadline_s, now_s() + TABLE_S))
        size = 0

        def count(message: Any) -> None:
            nonlocal size
            before, size = size, size + message.ByteSize()
            if before <= MAX_TABLE < size:
                limit.reschedule(now_s())

        try:
            async with limit:
                # The library collects replies without a limit, and has no public way to see them.
                connection = client._get_connection()  # noqa: SLF001
                forget = connection.add_message_callback(count, (TableReply,))
                try:
                    table = await self.session.run(
                        client.bluetooth_gatt_get_services(self._address)
                    )
                finally:
                    forget()
        except TimeoutError as error:
            why = "no answer in time" if size <= MAX_TABLE else "it is larger than any battery's"
            raise ConnectError(f"{doing}: {why}", Cause.GATT) from error
        except APIConnectionError as error:
            failed = explain_gatt(error, doing)
            raise ConnectError(str(failed), failed.cause) from error
        return table.services

    async def subscribe(self, handles: Handles, notified: Callable[[bytes], None]) -> None:
        """Request notifications, of the proxy and of the battery. Raises BmsError."""

        def receive(_handle: int, data: bytearray) -> None:
            self.session.note()
            if self.is_connected and len(data) <= MAX_VALUE:
                notified(bytes(data))

        client = self.session.client
        # Not cancelled: the library would never forget `receive` (46.23).
        starting = asyncio.ensure_future(
            client.bluetooth_gatt_start_notify(self._address, handles.notify, receive, ANSWER_S)
        )
        starting.add_done_callback(self._note_started)
        leave_behind(starting)
        # Sent at once, which saves a round trip over Wi-Fi: the ESP32 handles them in order.
        await self._ask(
            "subscribe",
            client.bluetooth_gatt_write_descriptor(
                self._address, handles.subscription, SUBSCRIBE, ANSWER_S
            ),
        )
        await self._ask("subscribe", _wait(starting))

    def _note_started(self, starting: asyncio.Future[Any]) -> None:
        if self._has_ended and not starting.cancelled() and starting.exception() is None:
            _, forget = starting.result()  # too late for `_end`
            forget()

    async def write(self, handle: int, data: bytes, *, response: bool) -> None:
        """Write a value. Raises BmsError if that failed."""
        client = self.session.client
        await self._ask(
            "write",
            client.bluetooth_gatt_write(self._address, handle, data, response, ANSWER_S),
        )

    async def _ask(self, doing: str, work: Any) -> None:
        try:
            await self.session.run(work)
        except APIConnectionError as error:
            raise explain_gatt(error, doing) from error

    async def disconnect(self) -> None:
        """End the connection, and wait until the proxy has; never raises BmsError."""
        try:
            if self.is_connected:
                # Sent at once, so that a caller who is cancelled has disconnected the battery, too.
                self._release()
                either: list[asyncio.Future[Any]] = [self._gone, self.session.ended]
                await asyncio.wait(
                    either, timeout=DISCONNECT_S, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            self._end()

    def _release(self) -> None:
        """Request the end of the connection, once."""
        if not self._is_released:
            self._is_released = True
            with suppress(APIConnectionError):  # the API connection is gone, and the battery's, too
                self.session.client.bluetooth_device_disconnect_no_wait(self._address)

    def _changed(self, connected: bool, _mtu: int, code: int) -> None:  # noqa: FBT001 - by the library
        self.session.note()
        self.is_connected, self._code = connected, code
        if not connected:
            if not code:  # perhaps the late answer to an earlier request: the ESP32 would go on
                self._release()
            if not self._gone.done():
                self._gone.set_result(None)
            for lost in self.on_lost:
                lost()

    def _end(self) -> None:
        self._has_ended, self.is_connected = True, False
        self.session.connected.discard(self._address)
        self.session.slots.note_gone(self._address)
        self._forget()
        self.session.client.bluetooth_gatt_stop_notify_for_address(self._address)


async def _wait(request: asyncio.Future[Any]) -> None:
    await asyncio.shield(request)
