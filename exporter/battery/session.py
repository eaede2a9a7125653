"""Requests the registers of one poll, and keeps what later polls need."""

import asyncio
import logging
from typing import Any, Final, TypeVar

from exporter.battery.link import OpenLink
from exporter.battery.optional_register import OptionalRegister
from exporter.battery.settings_reader import SettingsReader
from exporter.battery.writing import Way, Writing
from exporter.clock import Clock
from exporter.config.schema import BatteryConfig
from exporter.connection import Connection
from exporter.errors import (
    AnotherProtocolError,
    BmsError,
    DeviceError,
    FailureReason,
    LinkLostError,
    ReplyTimeoutError,
)
from exporter.link_stats import LinkStats
from exporter.protocol.auth import PasswordExchange
from exporter.protocol.exchange import GIVE_UP_S, Exchange
from exporter.protocol.frame import Command, encode_request
from exporter.protocol.jbd import (
    decode_basic,
    decode_cells,
    decode_event_counters,
    decode_hardware,
    fitted_cells,
)
from exporter.reading import BasicInfo, EventCounters, Identity, Reading

log = logging.getLogger(__name__)

# For registers that a poll does not need, on a link that has just answered 0x03.
EXTRA_GIVE_UP_S: Final = 1.0
COUNTERS_EVERY_POLLS: Final = 10
COUNTERS_S: Final = 600.0  # maximum age of the counters that are shown

T = TypeVar("T")


class Session:
    """Requests the registers of each poll of one battery, and keeps what later polls need."""

    def __init__(
        self,
        battery: BatteryConfig,
        *,
        stats: LinkStats,
        clock: Clock,
        settings: SettingsReader | None = None,
    ) -> None:
        """Start without knowledge from earlier polls; readings age by `clock`."""
        self._battery = battery
        self._settings = settings
        self._leaves_first = False  # on this connection
        self._settled: tuple[OpenLink, BasicInfo] | None = None  # of a poll with nothing missing
        self._stats = stats
        self._clock = clock
        self._profile: str | None = None
        self._takes_early = True
        self._writing = Writing()
        self._polls = 0
        self._cells = OptionalRegister(
            Command.CELL_VOLTAGES, decode_cells, GIVE_UP_S, wanted=battery.cells
        )
        self._event_counters = OptionalRegister(
            Command.EVENT_COUNTERS, decode_event_counters, EXTRA_GIVE_UP_S, wanted=battery.counters
        )
        self._hardware = OptionalRegister(
            Command.HARDWARE, decode_hardware, EXTRA_GIVE_UP_S, wanted=battery.hardware
        )
        self._counters: EventCounters | None = None  # as last read
        self._counters_at_s = float("-inf")
        self._counters_from_poll = 0
        self._identity: Identity | None = None

    def describe(self) -> dict[str, Any]:
        """Return what decides the requests of the next poll, for its recording."""
        now_s = self._clock()
        return {
            "profile": self._profile,
            "takes_early": self._takes_early,
            "way": self._writing.choose(now_s),
            "cells": self._cells.is_due(now_s),
            "counters": self._are_counters_due() and self._event_counters.is_due(now_s),
            "hardware": self._identity is None and self._hardware.is_due(now_s),
            "leaves_first": self._settings is not None and self._settings.leaves_first,
        }

    def restore(self, *, profile: str | None, takes_early: bool, way: Way) -> None:
        """Go on from a state that `describe` has returned; for replays."""
        self._profile = profile
        self._takes_early = takes_early
        self._writing.start(way, self._clock())

    async def read(self, connection: Connection, *, deadline_s: float) -> Reading:
        """Request everything that this poll needs; 0x03 is enough for a reading.

        Registers that are not answered by `deadline_s`, by the loop's clock, are left out.

        Raises:
            BmsError: 0x03 was not answered, was refused, or its values cannot be true.
        """
        opened: list[OpenLink] = []
        self._settled = None
        self._leaves_first = self._settings is not None and self._settings.begin()
        self._writing.choose(self._clock())
        try:
            basic = await self._answer_in_time(connection, opened, deadline_s)
        except (ReplyTimeoutError, LinkLostError) as error:
            raise self._vary(error, opened) from error
        self._writing.note_answer()
        link = opened[-1]
        self._profile = link.profile
        cells, is_complete = None, False
        try:
            async with asyncio.timeout_at(deadline_s):
                cells = await self._read_optional(link, self._cells)
                await self._read_counters(link)
                await self._read_identity(link, basic)
                is_complete = True
        except TimeoutError:
            log.debug("out of time after the reading")
        except LinkLostError as error:
            # 0x03 alone is a reading: the registers that were not read are absent from it.
            self._stats.connection_failures[FailureReason.LINK_LOST] += 1
            log.debug("link lost after the reading", extra={"error": str(error)})
        if link.exchange.has_leftover(Command.BASIC_INFO):
            basic = await self._read_again(link, deadline_s)
        if is_complete:
            self._settled = link, basic
        self._polls += 1
        return Reading(
            basic=basic,
            cell_voltages_v=None if cells is None else fitted_cells(cells, basic.cell_count),
            counters=self._counters if self._counters_are_young() else None,
            identity=self._identity,
            requested_at_s=link.requested_at_s,
        )

    async def read_settings(self) -> None:
        """Read the settings, if they are due, on the link of a reading that nothing disturbed."""
        settled, self._settled = self._settled, None  # the link ends with this poll
        if self._settings is not None and settled is not None:
            link, basic = settled
            await self._settings.run(link.link, basic)

    async def _answer_in_time(
        self, connection: Connection, opened: list[OpenLink], deadline_s: float
    ) -> BasicInfo:
        try:
            async with asyncio.timeout_at(deadline_s):
                return await self._first_answer(connection, opened)
        except TimeoutError:
            known = [link.exchange.another_protocol for link in opened]
            raise next(filter(None, known), _out_of_time()) from None

    def _vary(self, error: BmsError, opened: list[OpenLink]) -> BmsError:
        """Choose how the next poll writes, after silence or a loss; return the error."""
        writing, was_other = self._writing, self._writing.way is Way.OTHER
        if isinstance(error, LinkLostError):
            if opened and writing.note_loss(self._clock(), error.cause):
                if was_other:
                    return ReplyTimeoutError(f"no reply; the other kind of write failed: {error}")
                error.cause = None
        elif not any(link.exchange.has_received for link in opened):
            error.cause = writing.note_silence(self._clock())
        return error

    async def _first_answer(self, connection: Connection, opened: list[OpenLink]) -> BasicInfo:
        """Return 0x03 from the first profile that answers in JBD; add each link to `opened`."""
        profiles = sorted(connection.profiles, key=lambda name: name != self._profile)
        failures: list[BmsError] = []
        for profile in profiles:
            early = self._early()
            opened_at_s = self._clock()
            link = await connection.open(
                profile,
                b"" if early is None else encode_request(early),
                other_write=self._writing.way is Way.OTHER,
            )
            exchange = Exchange(
                self._stats,
                early=early if link.early_sent else None,
                is_gentle=link.is_gentle,
            )
            opened.append(open_link := OpenLink(link, exchange, profile, self._stats))
            try:
                if (password := self._battery.password) is not None:
                    mac = bytes.fromhex(self._battery.address.replace(":", ""))
                    await open_link.authenticate(PasswordExchange(password, mac))
                if self._settings is not None and self._leaves_first:
                    await self._settings.leave(link)
                open_link.requested_at_s = opened_at_s if link.early_sent else self._clock()
                basic = await open_link.read(Command.BASIC_INFO, decode_basic, give_up_s=GIVE_UP_S)
            except (ReplyTimeoutError, AnotherProtocolError) as error:
                failures.append(error)
                continue
            self._takes_early = self._takes_early and not exchange.drops_requests
            return basic
        # Another protocol explains more than silence.
        failures.sort(key=lambda error: isinstance(error, ReplyTimeoutError))
        raise failures[0]

    async def _read_again(self, link: OpenLink, deadline_s: float) -> BasicInfo:
        """Request 0x03 again: the first reply was left over from an earlier connection."""
        try:
            async with asyncio.timeout_at(deadline_s):
                return await link.read(Command.BASIC_INFO, decode_basic, give_up_s=GIVE_UP_S)
        except TimeoutError:
            raise _out_of_time() from None

    def _early(self) -> Command | None:
        """Return the register to request before subscribing, as a wake-up.

        The first request after a connect is often lost. If this one is, nothing else is lost: its
        register is requested later anyway. If it is answered, its reply is used.
        """
        if self._battery.password is not None or not self._takes_early:
            return None
        if self._leaves_first:
            return None
        if self._writing.way is not Way.USUAL:
            return None
        is_due = self._cells.is_due(self._clock())
        return Command.CELL_VOLTAGES if is_due else Command.BASIC_INFO

    def _are_counters_due(self) -> bool:
        return self._polls >= self._counters_from_poll or not self._counters_are_young()

    def _counters_are_young(self) -> bool:
        return self._clock() - self._counters_at_s < COUNTERS_S

    async def _read_optional(self, link: OpenLink, register: OptionalRegister[T]) -> T | None:
        """Return the decoded register, None when it is not due or there is no usable reply.

        Raises:
            LinkLostError: The connection ended.
        """
        now_s = self._clock()
        if not register.is_due(now_s):
            return None
        try:
            value = await link.read(register.command, register.decode, give_up_s=register.give_up_s)
        except LinkLostError:
            # Some batteries disconnect instead of refusing. At 0x04 it is mostly a weak link.
            if register.command is not Command.CELL_VOLTAGES:
                register.note_silence(now_s)
            raise
        except BmsError as error:
            if isinstance(error, DeviceError):
                register.note_refusal(now_s)
            else:
                register.note_silence(now_s)
            number = f"{register.command:#04x}"
            log.debug("no answer used", extra={"register": number, "error": str(error)})
            return None
        register.note_answer()
        return value

    async def _read_counters(self, link: OpenLink) -> None:
        """Request 0xAA in every tenth poll, and keep the counters for at most ten minutes."""
        now_s = self._clock()
        if not self._are_counters_due():
            return
        counters = await self._read_optional(link, self._event_counters)
        if counters is not None:
            self._counters = counters
            self._counters_at_s = now_s
            self._counters_from_poll = self._polls + COUNTERS_EVERY_POLLS

    async def _read_identity(self, link: OpenLink, basic: BasicInfo) -> None:
        """Request 0x05 until it is answered or given up; then never: labels must not change."""
        if self._identity is not None:
            return
        hardware = await self._read_optional(link, self._hardware)
        if hardware is None and self._hardware.is_due(self._clock()):
            return
        self._identity = Identity(
            profile=link.profile,
            hardware=hardware or "",
            software=basic.software,
            manufactured=basic.manufactured,
        )


def _out_of_time() -> ReplyTimeoutError:
    return ReplyTimeoutError("no reading within poll.timeout")
