"""The transport through an ESPHome Bluetooth proxy."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple

from exporter.ble.proxy.api import ProxyApi
from exporter.ble.proxy.connection import ProxyConnection
from exporter.ble.proxy.peripheral import Peripheral
from exporter.ble.proxy.raw import parse_address, read_raw
from exporter.ble.proxy.reports import Reports
from exporter.ble.proxy.session import Session
from exporter.ble.timeouts import FIND_S, limit_look, may_retry, retry_pauses
from exporter.ble.transport import Hear, Renew, Target, make_not_found
from exporter.clock import Clock, boot_s
from exporter.errors import (
    AdapterError,
    BmsError,
    Cause,
    ConnectError,
    FailureReason,
    NotFoundError,
)

log = logging.getLogger(__name__)

# JBD modules advertise about every second: one that was heard so lately is still there.
RECENT_S: Final = 3.0


class Sighting(NamedTuple):
    """An advertisement of a battery."""

    at_s: float  # by the loop's clock
    raw: Any  # the library's message


class ProxyTransport:
    """Implements `ScanningTransport` through one proxy."""

    def __init__(self, api: ProxyApi, *, clock: Clock = boot_s) -> None:
        """Use the API connection, which may be shared; `clock` gives `LinkStats.seen_at_s`."""
        self._api = api
        self._clock = clock
        self._seen: dict[str, Sighting] = {}  # by address; of targets only
        self._searching: dict[str, list[asyncio.Future[Sighting]]] = {}  # by address
        self.targets: Mapping[str, Target] = {}

    @asynccontextmanager
    async def advertisements(self, hear: Hear) -> AsyncIterator[Renew]:
        """Call `hear` for every advertisement; see `ScanningTransport`."""

        def listener(address: str, raw: Any) -> None:
            hear(read_raw(address, raw.rssi, raw.address_type, raw.data))

        async with self._api.use() as session:

            async def renew() -> None:
                if session.ended.done():
                    raise session.make_error()

            self._api.hearing.append(listener)
            try:
                yield renew
            finally:
                self._api.hearing.remove(listener)

    @asynccontextmanager
    async def connect(
        self, target: Target, *, deadline_s: float, is_gentle: bool = False
    ) -> AsyncIterator[ProxyConnection]:
        """Find the battery, connect, and disconnect when the context ends; see `Transport`."""
        self._api.hearing.append(self._hear)
        async with AsyncExitStack() as stack:
            stack.callback(self._api.hearing.remove, self._hear)
            stack.callback(target.stats.record_connection, connected=False)
            session = await self._open(stack, target, deadline_s)
            sighting = await self._find(session, target, deadline_s)
            peripheral = await self._connect_in_time(session, target, sighting, deadline_s)
            stack.push_async_callback(self._disconnect, peripheral, target)
            connection = ProxyConnection(peripheral, target, is_gentle=is_gentle)
            stack.callback(asyncio.create_task(_end_with(session, connection)).cancel)
            await connection.discover(deadline_s)
            yield connection

    async def _open(self, stack: AsyncExitStack, target: Target, deadline_s: float) -> Session:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await stack.enter_async_context(self._api.use())
        except TimeoutError:
            error = AdapterError(f"proxy {self._api.config.name}: it does not answer in time")
            self._api.note_no_answer(error)
            target.stats.record_attempt(error.reason)
            raise error from None
        except AdapterError as error:
            target.stats.record_attempt(error.reason)
            target.stats.record_event("failed", doing="proxy", error=type(error).__name__)
            raise

    def _hear(self, address: str, raw: Any) -> None:
        if (target := self.targets.get(address)) is None and address not in self._searching:
            return
        sighting = Sighting(asyncio.get_running_loop().time(), raw)
        self._seen[address] = sighting
        if target is not None:
            target.stats.record_advertisement(raw.rssi, self._clock(), self._api.config.name)
        for found in self._searching.get(address, ()):
            if not found.done():
                found.set_result(sighting)

    async def _find(self, session: Session, target: Target, deadline_s: float) -> Sighting:
        """Return the last advertisement if it is recent, or else wait for the next one."""
        now_s = asyncio.get_running_loop().time
        sighting = self._seen.get(target.address)
        if sighting is None or now_s() - sighting.at_s > RECENT_S:
            number = parse_address(target.address)
            if target.takes_over and session.keeps(number):
                session.release(number)  # so that it advertises
            sighting = await self._wait(session, target, deadline_s)
        # It may be older than the choice of this proxy.
        age_s = now_s() - sighting.at_s
        target.stats.record_rssi(sighting.raw.rssi, self._clock() - age_s)
        if target.stats.recorder is not None:
            raw = sighting.raw
            advertisement = read_raw(target.address, raw.rssi, raw.address_type, raw.data)
            target.stats.recorder.advertised(advertisement)
        return sighting

    async def _wait(self, session: Session, target: Target, deadline_s: float) -> Sighting:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        found: asyncio.Future[Sighting] = loop.create_future()
        waiting = self._searching.setdefault(target.address, [])
        waiting.append(found)
        reports = Reports()
        self._api.hearing.append(reports.add)
        try:
            either: list[asyncio.Future[Any]] = [found, session.ended]
            for until_s in (limit_look(target.stats.missed, FIND_S), 2 * FIND_S):
                left_s = min(began_s + until_s, deadline_s) - loop.time()
                await asyncio.wait(
                    either, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
                )
                if reports.are_repeated or any(one.done() for one in either):
                    break  # or else the battery may be reported in the next scan only
        finally:
            self._api.hearing.remove(reports.add)
            waiting.remove(found)
            if not waiting:
                self._searching.pop(target.address, None)
        if found.done():
            return found.result()
        if session.ended.done():
            target.stats.record_attempt(FailureReason.ADAPTER)
            raise session.make_error()
        target.stats.record_attempt(FailureReason.NOT_FOUND)
        look_s = loop.time() - began_s
        if session.keeps(parse_address(target.address)):
            raise NotFoundError(
                f"{target.address} not seen in {look_s:.0f} s: the proxy {session.name} keeps it "
                "connected, although it was asked to disconnect: restart the proxy"
            )
        raise make_not_found(target, look_s)

    async def _connect_in_time(
        self, session: Session, target: Target, sighting: Sighting, deadline_s: float
    ) -> Peripheral:
        """Attempt to connect until the deadline, while what is known says that it may succeed."""
        now_s = asyncio.get_running_loop().time
        failed: BmsError | None = None
        for number, pause_s in enumerate(retry_pauses(), 1):
            await self._take_slot(session, sighting.raw.address, failed, deadline_s)
            peripheral = Peripheral(session, sighting.raw.address, sighting.raw.address_type)
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._attempt(peripheral, target)
            except TimeoutError:
                raise failed or ConnectError(
                    f"connect to {target.address} by proxy {session.name}: no answer in time"
                ) from None
            except ConnectError as error:
                failed = error
            else:
                return peripheral
            if not may_retry(failed.cause, number) or now_s() + pause_s >= deadline_s:
                raise failed
            await asyncio.sleep(pause_s)
        raise AssertionError  # the pauses have no end

    async def _take_slot(
        self, session: Session, address: int, failed: BmsError | None, deadline_s: float
    ) -> None:
        try:
            async with asyncio.timeout_at(deadline_s):
                await session.run(session.slots.take(address))
        except TimeoutError:
            session.slots.note_asked(address)  # it may have got one just now
            raise failed or ConnectError(
                f"all {session.slots.limit} connections of the proxy {session.name} are in use: "
                "it can have more with connection_slots in its YAML",
                Cause.HELD,
            ) from None

    async def _attempt(self, peripheral: Peripheral, target: Target) -> None:
        stats = target.stats
        failure: FailureReason | None = FailureReason.CONNECT  # if cancelled
        stats.record_event("open")
        try:
            await peripheral.connect()
            failure = None
            stats.record_connection(connected=True)
            if stats.recorder is not None:
                stats.recorder.connected()
        except BmsError as error:
            stats.record_event("failed", doing="connect", error=type(error).__name__)
            failure = error.reason
            raise
        finally:
            stats.record_attempt(failure)

    async def _disconnect(self, peripheral: Peripheral, target: Target) -> None:
        if target.stats.recorder is not None:
            target.stats.recorder.closed("us")
        await peripheral.disconnect()
        target.stats.record_event("gone")


async def _end_with(session: Session, connection: ProxyConnection) -> None:
    """End the links of a connection when the API connection ends."""
    await asyncio.wait([session.ended])
    connection.end(str(session.ended.result()))
