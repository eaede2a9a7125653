"""The conversation with one battery: what is asked when, resent when, given up when."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from exporter.clock import Clock, boot_s
from exporter.errors import (
    AnotherProtocolError,
    BmsError,
    DecodeError,
    DeviceError,
    FailureReason,
    LinkLostError,
    PairingError,
    ProtocolError,
    ReplyTimeoutError,
)
from exporter.link_stats import LinkStats
from exporter.protocol.auth import PasswordExchange
from exporter.protocol.frame import (
    Command,
    Frame,
    FrameAssembler,
    FrameError,
    encode_request,
    is_another_protocol,
)
from exporter.protocol.jbd import (
    decode_basic,
    decode_cells,
    decode_event_counters,
    decode_hardware,
    fitted_cells,
    status_name,
)
from exporter.reading import BasicInfo, EventCounters, Identity, Reading

log = logging.getLogger(__name__)

# The first command after a connect is often lost. Answers take 63 to 147 ms in recorded traffic.
RESEND_S: Final = 0.4
# Request and reply cross the BMS's serial line: 9600 baud, ten bits a byte (vendor document V4).
BYTE_S: Final = 10 / 9600
REQUEST_SIZE: Final = 7
KEPT: Final = 64  # bytes to recognise another protocol by
SHOWN: Final = 16  # bytes that a message quotes
# All of an answer comes within milliseconds; a link that repeats lost packets can stall for longer.
UNFINISHED_S: Final = 1.5
# The vendor's app was seen to need 4.0 s and two lost commands for its first answer.
GIVE_UP_S: Final = 5.0
# For registers that a poll does not need, on a link that has just answered 0x03.
EXTRA_GIVE_UP_S: Final = 1.0
COUNTERS_EVERY_POLLS: Final = 10
COUNTERS_S: Final = 600.0  # however rare the polls are, the counters shown are not older
ASK_AGAIN_S: Final = 3600.0  # after a refusal, or after this many polls without an answer:
SILENCES: Final = 3

T = TypeVar("T")


class Link(Protocol):
    """One profile of an open connection: bytes out, notifications in."""

    early_sent: bool
    """Whether a request was written before the subscription."""

    async def write(self, data: bytes) -> None:
        """Send one request. Raises LinkLostError."""

    async def receive(self) -> tuple[float, bytes]:
        """Return when the next notification came, by the loop's clock, and its bytes.

        Raises:
            LinkLostError: The connection ended.
        """


class Connection(Protocol):
    """An open connection to one battery."""

    @property
    def profiles(self) -> Sequence[str]:
        """The names of the known profiles that the battery has, best first; never empty."""

    async def open(self, profile: str, early: bytes) -> Link:
        """Subscribe to one of them; `early` is written before where that costs no time.

        Raises:
            AuthError: The battery wants pairing.
            LinkLostError: The connection ended.
        """


@dataclass(slots=True, kw_only=True)
class OptionalRegister(Generic[T]):
    """A register that a reading can do without, and the time when to request it again."""

    command: Command
    decode: Callable[[bytes], T]
    give_up_s: float
    wanted: bool = True
    _silences: int = field(default=0, init=False)  # in a row
    _not_before_s: float = field(default=float("-inf"), init=False)

    def is_due(self, now_s: float) -> bool:
        """Return whether the register is configured and may be requested at this time."""
        return self.wanted and now_s >= self._not_before_s

    def note_refusal(self, now_s: float) -> None:
        """Request it again in an hour: the battery does not have it."""
        self._not_before_s = now_s + ASK_AGAIN_S

    def note_silence(self, now_s: float) -> None:
        """Request it again in the next poll; after three silences in a row, in an hour."""
        self._silences += 1
        if self._silences >= SILENCES:
            self.note_refusal(now_s)

    def note_answer(self) -> None:
        """Forget earlier silences and refusals."""
        self._silences = 0
        self._not_before_s = float("-inf")


class Bms:
    """One battery's conversation, and what it remembers from poll to poll."""

    def __init__(  # noqa: PLR0913 - one argument for each option
        self,
        *,
        stats: LinkStats,
        mac: bytes = bytes(6),
        cells: bool = True,
        hardware: bool = True,
        counters: bool = True,
        password: bytes | None = None,
        clock: Clock = boot_s,
    ) -> None:
        """Set the options of one battery.

        Args:
            stats: Where to count what happens.
            mac: The battery's address, first byte first; for the password exchange.
            cells: Request register 0x04.
            hardware: Request register 0x05.
            counters: Request register 0xAA.
            password: The BMS's password, sent before any request; None: it has none.
            clock: The clock by which readings age; it includes the time in suspend.
        """
        self._stats = stats
        self._mac = mac
        self._password = password
        self._clock = clock
        self._profile: str | None = None
        self._takes_early = True
        self._polls = 0
        self._cells = OptionalRegister(
            command=Command.CELL_VOLTAGES, decode=decode_cells, give_up_s=GIVE_UP_S, wanted=cells
        )
        self._event_counters = OptionalRegister(
            command=Command.EVENT_COUNTERS,
            decode=decode_event_counters,
            give_up_s=EXTRA_GIVE_UP_S,
            wanted=counters,
        )
        self._hardware = OptionalRegister(
            command=Command.HARDWARE,
            decode=decode_hardware,
            give_up_s=EXTRA_GIVE_UP_S,
            wanted=hardware,
        )
        self._counters: EventCounters | None = None  # as last answered
        self._counters_at_s = float("-inf")
        self._counters_from_poll = 0
        self._identity: Identity | None = None

    async def read(self, connection: Connection, *, deadline_s: float) -> Reading:
        """Ask everything that this poll needs; 0x03 is enough for a reading.

        Args:
            connection: To the battery.
            deadline_s: By the loop's clock: what was not answered by then is left out.

        Raises:
            BmsError: 0x03 was not answered, refused, or answered with something impossible.
        """
        attempts: list[_Conversation] = []
        try:
            async with asyncio.timeout_at(deadline_s):
                basic = await self._first_answer(connection, attempts)
        except TimeoutError:
            known = [attempt.another_protocol for attempt in attempts]
            raise next(filter(None, known), _out_of_time()) from None
        conversation = attempts[-1]
        self._profile = conversation.profile
        cells = None
        try:
            async with asyncio.timeout_at(deadline_s):
                cells = await self._ask(conversation, self._cells)
                await self._ask_counters(conversation)
                await self._ask_identity(conversation, basic)
        except TimeoutError:
            log.debug("out of time after the reading")
        except LinkLostError as error:
            # 0x03 is a whole reading; what the drop cost is visible as absent, and counted here.
            self._stats.connection_failures[FailureReason.LINK_LOST] += 1
            log.debug("link lost after the reading", extra={"error": str(error)})
        if conversation.has_leftover(Command.BASIC_INFO):
            basic = await self._ask_again(conversation, deadline_s)
        self._polls += 1
        return Reading(
            basic=basic,
            cell_voltages_v=None if cells is None else fitted_cells(cells, basic.cell_count),
            counters=self._counters if self._counters_are_young() else None,
            identity=self._identity,
            requested_at_s=conversation.requested_at_s,
        )

    async def _first_answer(
        self, connection: Connection, attempts: "list[_Conversation]"
    ) -> BasicInfo:
        """Return 0x03 from the first profile that answers; add every attempt to `attempts`.

        The next profile is tried when one is silent or answers in another protocol.
        """
        profiles = sorted(connection.profiles, key=lambda name: name != self._profile)
        failures: list[BmsError] = []
        for profile in profiles:
            early = self._early()
            request = b"" if early is None else encode_request(early)
            opened_at_s = self._clock()
            link = await connection.open(profile, request)
            conversation = _Conversation(
                link, self._stats, profile=profile, early=early if link.early_sent else None
            )
            attempts.append(conversation)
            try:
                if self._password is not None:
                    await conversation.authenticate(PasswordExchange(self._password, self._mac))
                conversation.requested_at_s = opened_at_s if link.early_sent else self._clock()
                basic = await conversation.decoded(
                    Command.BASIC_INFO, decode_basic, give_up_s=GIVE_UP_S
                )
                self._takes_early = self._takes_early and not conversation.overtaxed
            except (ReplyTimeoutError, AnotherProtocolError) as error:
                failures.append(error)
                continue
            return basic
        # An answer in another protocol says more than silence.
        failures.sort(key=lambda error: isinstance(error, ReplyTimeoutError))
        raise failures[0]

    async def _ask_again(self, conversation: "_Conversation", deadline_s: float) -> BasicInfo:
        """Request 0x03 again: the reply that was used was a leftover."""
        try:
            async with asyncio.timeout_at(deadline_s):
                return await conversation.decoded(
                    Command.BASIC_INFO, decode_basic, give_up_s=GIVE_UP_S
                )
        except TimeoutError:
            raise _out_of_time() from None

    def _early(self) -> Command | None:
        """Return the register to ask before anybody listens, to wake the BMS.

        The first request after a connect is often lost: then nothing is lost but this one, whose
        turn comes later. If it is not, its answer is used.
        """
        if self._password is not None or not self._takes_early:
            return None
        is_due = self._cells.is_due(self._clock())
        return Command.CELL_VOLTAGES if is_due else Command.BASIC_INFO

    def _counters_are_young(self) -> bool:
        return self._clock() - self._counters_at_s < COUNTERS_S

    async def _ask(self, conversation: "_Conversation", register: OptionalRegister[T]) -> T | None:
        """Return the decoded register, None when it is not due or there is no usable answer.

        Raises:
            LinkLostError: The connection ended.
        """
        now_s = self._clock()
        if not register.is_due(now_s):
            return None
        try:
            value = await conversation.decoded(
                register.command, register.decode, give_up_s=register.give_up_s
            )
        except LinkLostError:
            # Some batteries disconnect instead of refusing. Not so at 0x04: weak links end there.
            if register.command is not Command.CELL_VOLTAGES:
                register.note_silence(now_s)
            raise
        except DeviceError as error:
            register.note_refusal(now_s)
            _log_unused(register.command, error)
            return None
        except BmsError as error:
            register.note_silence(now_s)
            _log_unused(register.command, error)
            return None
        register.note_answer()
        return value

    async def _ask_counters(self, conversation: "_Conversation") -> None:
        """Request 0xAA in every tenth poll, and keep the counters for at most ten minutes."""
        now_s = self._clock()
        if self._polls < self._counters_from_poll and self._counters_are_young():
            return
        counters = await self._ask(conversation, self._event_counters)
        if counters is not None:
            self._counters = counters
            self._counters_at_s = now_s
            self._counters_from_poll = self._polls + COUNTERS_EVERY_POLLS

    async def _ask_identity(self, conversation: "_Conversation", basic: BasicInfo) -> None:
        """Request 0x05 until it is answered or given up; after that the labels never change."""
        if self._identity is not None:
            return
        hardware = await self._ask(conversation, self._hardware)
        if hardware is None and self._hardware.is_due(self._clock()):
            return
        self._identity = Identity(
            profile=conversation.profile,
            hardware=hardware or "",
            software=basic.software,
            manufactured=basic.manufactured,
        )


class _Conversation:
    """Requests and replies on one link, one at a time.

    What came before a register was requested on this link cannot answer it. The Bluetooth module
    hands over what it kept from earlier connections just after the subscription, perhaps after
    the first request was written; a reply takes longer, because request and reply cross a serial
    line. So bytes that come sooner are dropped, even if they look like the reply to the early
    request; its register is then requested once more. The time does not reveal two kinds:

    - A leftover 0x03 that is handed over later (more than 45 ms after the request), while the
      real reply is on its way: if a second reply comes within the poll, 0x03 is requested again.
      If the request was lost, or the poll is over first, the leftover is believed.
    - A leftover of the early request's register that is handed over later (four cells: 23 ms). If
      the early request arrived, there are two replies and neither is used. If it was lost, the
      leftover is believed.
    """

    def __init__(
        self, link: Link, stats: LinkStats, *, profile: str, early: Command | None = None
    ) -> None:
        """Start on a link that was just opened.

        Args:
            link: Where to write and receive.
            stats: Where to count what happens.
            profile: The name of the GATT profile that the link uses.
            early: The register that was requested before the subscription; it may be lost.
        """
        self._link = link
        self._stats = stats
        self.profile = profile
        self.requested_at_s: float | None = None
        """When the first request was sent, by the clock; every reply was measured later."""
        self._early = early
        self._early_frame: Frame | None = None
        self.overtaxed = False
        """Whether the early request was answered and the one after it was not, at first: this
        battery drops requests that arrive while it is replying."""
        self._answered: set[int] = set()
        self._received = b""  # the first bytes, to recognise another protocol
        self._first_request_s: float | None = None
        self._open_requests: Counter[int] = Counter()  # requests minus replies, by register
        if early is not None:
            self._open_requests[early] += 1

    def has_leftover(self, command: Command) -> bool:
        """Return whether more replies came than requests were sent."""
        return self._open_requests[command] < 0

    async def ask(self, command: Command, *, give_up_s: float) -> bytes:
        """Return the payload of one register.

        Raises:
            DeviceError: The reply's status is not 0.
            ProtocolError: Complete frames came within `give_up_s`, none of them valid.
            ReplyTimeoutError: Nothing complete came within `give_up_s`.
            AuthError: The battery sends requests back instead of answering them.
            LinkLostError: The connection ended.
        """
        frame = self._early_frame
        self._early_frame = None
        if frame is None or frame.register != command:
            frame = await self._asked(command, give_up_s)
        self._answered.add(command)
        if frame.status:
            raise DeviceError(
                f"register {command:#04x}: expected status 0x00 (ok), "
                f"got {frame.status:#04x} ({status_name(frame.status)})"
            )
        return frame.payload

    async def _asked(self, command: Command, give_up_s: float) -> Frame:
        assembler = FrameAssembler(command, self._answered, self._early)
        try:
            async with asyncio.timeout(give_up_s):
                frame = await self._reply(command, assembler)
        except TimeoutError:
            raise self._no_reply(command, assembler, give_up_s) from None
        finally:
            assembler.forget()
            self._stats.frame_errors.update(assembler.errors)
            self._stats.discarded_bytes += assembler.discarded
            self._open_requests[command] += 1 + assembler.resends
            self._open_requests.subtract(assembler.late)
        if self._early is not None:
            self._early_frame = assembler.early_frame
            was_heard = assembler.early_replies or (
                command == self._early and assembler.leftover_seen
            )
            self.overtaxed = bool(was_heard and assembler.resends)
            self._answered.add(self._early)  # whatever else comes of it is too late
            self._early = None
        return frame

    def _no_reply(self, command: Command, assembler: FrameAssembler, give_up_s: float) -> BmsError:
        if assembler.errors:
            counts = ", ".join(f"{n} x wrong {error}" for error, n in assembler.errors.items())
            return ProtocolError(
                f"register {command:#04x}: no valid reply in {give_up_s:g} s: {counts}"
            )
        what = "no complete reply, only pieces," if assembler.pending else "no reply"
        return self.another_protocol or ReplyTimeoutError(
            f"register {command:#04x}: {what} in {give_up_s:g} s"
        )

    @property
    def another_protocol(self) -> AnotherProtocolError | None:
        """The error for a battery that answers in another protocol; None: it does not."""
        if not is_another_protocol(self._received):
            return None
        shown = self._received[:SHOWN]
        more = "..." if len(self._received) > SHOWN else ""
        return AnotherProtocolError(
            f"it answers, but not in the JBD protocol: {shown.hex()}{more}; check the address, "
            "or try another profile"
        )

    async def decoded(
        self, command: Command, decode: Callable[[bytes], T], *, give_up_s: float
    ) -> T:
        """Request a register and return it decoded; count a payload that cannot be true.

        Raises:
            DecodeError: The payload cannot be true.
            BmsError: As `ask` does.
        """
        payload = await self.ask(command, give_up_s=give_up_s)
        try:
            return decode(payload)
        except DecodeError:
            self._stats.frame_errors[FrameError.DECODE] += 1
            raise

    async def authenticate(self, exchange: PasswordExchange) -> None:
        """Prove the password.

        Raises:
            AuthError: The password was refused.
            ReplyTimeoutError: The battery does not answer the exchange.
            LinkLostError: The connection ended.
        """

        def feed(chunk: bytes, at_s: float | None) -> bool | None:
            if at_s is None:
                self._stats.discarded_bytes += len(chunk)
                return None
            return exchange.feed(chunk) or exchange.done or None

        try:
            async with asyncio.timeout(GIVE_UP_S):
                while not exchange.done:
                    await self._exchange(exchange.request, feed)
        except TimeoutError:
            raise ReplyTimeoutError(
                f"no answer to the password exchange in {GIVE_UP_S:g} s: "
                "remove password_file if this battery has no password"
            ) from None

    async def _reply(self, command: Command, assembler: FrameAssembler) -> Frame:
        if self._first_request_s is None:
            self._first_request_s = asyncio.get_running_loop().time()
        first_request_s = self._first_request_s

        def feed(chunk: bytes, at_s: float | None) -> Frame | None:
            self._received += chunk[: KEPT - len(self._received)]
            possible = 0 if at_s is None else _possible_bytes(at_s - first_request_s)
            frames = assembler.feed(chunk, possible)
            self._open_requests[command] -= len(frames)
            if assembler.echoed:
                raise PairingError(
                    "the battery sends requests back unanswered: it wants pairing with a PIN "
                    "first, see bluetoothctl pair"
                )
            return frames[-1] if frames else None

        return await self._exchange(encode_request(command), feed, assembler)

    async def _exchange(
        self,
        request: bytes,
        feed: Callable[[bytes, float | None], T | None],
        assembler: FrameAssembler | None = None,
    ) -> T:
        """Send `request`, again whenever nothing comes, until `feed` returns an answer.

        A second request would interleave with an answer that has begun, so that is given more
        time.

        Args:
            request: What to write.
            feed: Takes a notification and its time; None: it came before the request was written.
            assembler: Puts the answer together.
        """
        self._stats.requests += 1
        loop = asyncio.get_running_loop()
        written_s = loop.time()
        await self._link.write(request)
        resend_at_s = loop.time() + RESEND_S
        while True:
            try:
                async with asyncio.timeout_at(resend_at_s):
                    at_s, chunk = await self._link.receive()
            except TimeoutError:
                if assembler is not None:
                    assembler.doubt()
                self._stats.resends += 1
                await self._link.write(request)
                resend_at_s = loop.time() + RESEND_S
                continue
            log.debug("received", extra={"hex": chunk.hex()})
            answer = feed(chunk, at_s if at_s >= written_s else None)
            if answer is not None:
                return answer
            if assembler is not None and assembler.pending:
                resend_at_s = loop.time() + UNFINISHED_S
            elif assembler is not None and assembler.early_frame is not None:
                resend_at_s = loop.time() + RESEND_S  # it has only now come to this request


def _possible_bytes(elapsed_s: float) -> int:
    """Return how many bytes of a reply the serial line can have carried since the request.

    The first reply of a BMS with a faster line is dropped; the one after the resend is used.
    """
    return max(0, int(elapsed_s / BYTE_S) - REQUEST_SIZE)


def _out_of_time() -> ReplyTimeoutError:
    return ReplyTimeoutError("no reading within poll.timeout")


def _log_unused(command: Command, error: BmsError) -> None:
    log.debug("no answer used", extra={"register": f"{command:#04x}", "error": str(error)})
