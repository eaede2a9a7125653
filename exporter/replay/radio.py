"""bleak's interfaces, replayed: `BleakTransport` connects to a recorded battery."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from bleak.args import SizedBuffer
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData, AdvertisementDataCallback, BaseBleakScanner
from bleak.exc import BleakError

from exporter.ble.transport import Backend
from exporter.protocol.advertisement import Advertisement
from exporter.recording.session import Event
from exporter.replay.bleak_objects import MTU, make_error, make_table
from exporter.replay.problems import Problems
from exporter.replay.script import (
    Attempt,
    Conversation,
    Delivery,
    Request,
    UnknownRequestError,
    matches_value,
    restore_value,
)
from exporter.replay.times import Queue, Times

SOON_S: Final = 0.01  # for an advertisement whose time is over


@dataclass(slots=True, kw_only=True)
class RecordedAir:
    """One battery that does what it did in the recording, through bluetoothd."""

    address: str
    advertisements: Sequence[tuple[float, Advertisement]]  # with their times
    attempts: Iterator[Attempt]
    scan_failure: Event | None
    times: Times
    problems: Problems
    began_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())


def make_backend(air: RecordedAir) -> Backend:
    """Return the classes that replace those of bleak."""

    class ReplayedClient(_Client):
        _air = air

    class ReplayedScanner(_Scanner):
        _air = air

    return Backend(client=ReplayedClient, scanner=ReplayedScanner)


class _Scanner(BaseBleakScanner):
    _air: ClassVar[RecordedAir]

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        *_: Any,
        **__: Any,
    ) -> None:
        super().__init__(detection_callback, service_uuids)
        self._timers: list[asyncio.TimerHandle] = []

    async def start(self) -> None:
        air = self._air
        if air.scan_failure is not None:
            raise make_error(air.scan_failure)
        self.seen_devices = {}
        loop = asyncio.get_running_loop()
        soon_s = loop.time() + SOON_S
        for t, advertisement in air.advertisements:
            due_s = max(soon_s, air.began_s + air.times.scaled(t))
            self._timers.append(loop.call_at(due_s, self._advertise, advertisement))

    async def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _advertise(self, advertisement: Advertisement) -> None:
        address, name = self._air.address, advertisement.name
        data = AdvertisementData(
            local_name=name,
            manufacturer_data=dict(advertisement.manufacturer_data),
            service_data={},
            service_uuids=sorted(advertisement.service_uuids),
            tx_power=None,
            rssi=advertisement.rssi_dbm,
            platform_data=(),
        )
        details = {"props": {"AddressType": advertisement.address_type}}
        device = self.create_or_update_device(address, address, name, details, data)
        self.call_detection_callbacks(device, data)


class _Client(BaseBleakClient):
    _air: ClassVar[RecordedAir]

    def __init__(self, address_or_ble_device: BLEDevice | str, **options: Any) -> None:
        super().__init__(address_or_ble_device, **options)
        self._attempt: Attempt | None = None
        self._conversation = Conversation((), repeats=False)
        self._queue: Queue = self._air.times.queue(self._deliver)
        self._callbacks: dict[str, NotifyCallback] = {}
        self._answers: list[asyncio.Future[Event]] = []  # of requests under way, the oldest first

    @property
    def name(self) -> str:
        return self.address

    @property
    def mtu_size(self) -> int:
        return MTU

    @property
    def is_connected(self) -> bool:
        return self._attempt is not None

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        air = self._air
        attempt = next(air.attempts, None)
        if attempt is None:
            air.problems.note("the exporter connects again, the recording has no more attempts")
            raise BleakError("no more attempts")
        async with asyncio.timeout(kwargs.get("timeout")):
            if attempt.connected is None:
                if attempt.failure is None:
                    await asyncio.Event().wait()  # until the exporter gives up
                    raise AssertionError
                await air.times.sleep(attempt.failure.t - attempt.event.t)
                raise make_error(attempt.failure)
            await air.times.sleep(attempt.connected.event.t - attempt.event.t)
        self._attempt = attempt
        self._conversation = Conversation(attempt.requests, repeats=air.times.differ)
        self.services = make_table(attempt.services)
        self._queue.add(attempt.connected.deliveries)

    async def disconnect(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            self._end()
            if attempt.closed is not None and attempt.gone is not None:
                await self._air.times.sleep(attempt.gone.t - attempt.closed.t)

    async def _unused(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    pair = unpair = read_gatt_char = read_gatt_descriptor = write_gatt_descriptor = _unused

    async def write_gatt_char(
        self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool
    ) -> None:
        value, uuid = bytes(data), characteristic.uuid

        def matches(event: Event) -> bool:
            return (
                event.name == "write"
                and event.get("uuid", str, "") == uuid
                and event.get("response", bool, False) == response
                and matches_value(event, event.data("hex"), value)
            )

        await self._ask(matches, f"write {value.hex()} to {uuid}", has_answer=response)

    async def start_notify(
        self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **kwargs: Any
    ) -> None:
        uuid = characteristic.uuid
        self._callbacks[uuid] = callback

        def matches(event: Event) -> bool:
            return event.name == "subscribe" and event.get("uuid", str, "") == uuid

        await self._ask(matches, f"subscribe to {uuid}", has_answer=True)

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        self._callbacks.pop(characteristic.uuid, None)

    async def _ask(self, matches: Callable[[Event], bool], shown: str, *, has_answer: bool) -> None:
        """Do what the recorded request caused; return when that was answered.

        Raises:
            BleakError: It was refused, or is not in the recording.
        """
        if not self.is_connected:
            raise BleakError("Not connected")
        request = self._find(matches, shown)
        has_answer |= any(one.event.name == "refused" for one in request.deliveries)
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        if has_answer:
            self._answers.append(answer)
        self._queue.add(request.deliveries)
        if has_answer and (event := await answer).name == "refused":
            raise make_error(event)

    def _find(self, matches: Callable[[Event], bool], shown: str) -> Request:
        try:
            return self._conversation.ask(matches, shown)
        except UnknownRequestError as error:
            self._air.problems.note(str(error))
            self._end()
            raise BleakError("not in the recording") from error

    def _deliver(self, delivery: Delivery) -> None:
        event = delivery.event
        if event.name == "notify":
            callback = self._callbacks.get(event.get("uuid", str, ""))
            if callback is not None:
                callback(bytearray(restore_value(event, event.data("hex"))))
        elif event.name == "closed":
            self._end()
        elif self._answers:
            self._answers.pop(0).set_result(event)

    def _end(self) -> None:
        """End the connection; requests under way fail as bleak lets them."""
        self._attempt = None
        self._queue.clear()
        self._callbacks.clear()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(BleakError("disconnected"))
        self._answers.clear()
        if self._disconnected_callback is not None:
            self._disconnected_callback()
