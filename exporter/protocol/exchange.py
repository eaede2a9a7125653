"""Requests and replies on one link: what to send, when to resend it, and when to give up.

Sans-I/O: the caller writes `data_to_send`, passes on what arrives, and says when `deadline_s` has
passed. All times are in seconds by one clock that never goes back.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

from exporter.errors import (
    HOW_TO_PAIR,
    BmsError,
    DeviceError,
    PairingError,
    ProtocolError,
    ReplyTimeoutError,
)
from exporter.protocol.another_protocol import KEPT, another_protocol_error
from exporter.protocol.auth import PasswordExchange
from exporter.protocol.frame import Command, Frame, FrameAssembler, FrameError, encode_request
from exporter.protocol.jbd import status_name

# The first command after a connect is often lost. Replies take 63 to 147 ms in recorded traffic.
RESEND_S: Final = 0.4
GENTLE_RESEND_S: Final = 1.0  # for a battery that lost connections in the fast style
# Request and reply cross the BMS's serial line: 9600 baud, ten bits a byte (vendor document V4).
BYTE_S: Final = 10 / 9600
REQUEST_SIZE: Final = 7
# A whole reply takes milliseconds, but a link that repeats lost packets can stall for longer.
UNFINISHED_S: Final = 1.5
# The vendor's app was seen to need 4.0 s and two lost commands for its first reply.
GIVE_UP_S: Final = 5.0


class Counters(Protocol):
    """What an exchange counts."""

    requests: int
    resends: int
    frame_errors: Counter[FrameError]
    discarded_bytes: int


@dataclass(slots=True)
class _Request:
    """A request under way: a register's, or the current step of the password exchange."""

    data: bytes
    reply: FrameAssembler | PasswordExchange
    started_s: float
    give_up_s: float
    give_up_at_s: float
    resend_at_s: float | None = None  # None: `data` is to be written


class Exchange:
    """Requests and replies on one link, one at a time.

    Just after the subscription, a Bluetooth module may deliver leftovers: replies from an earlier
    connection. A reply to our request takes longer, because both cross a serial line. So bytes
    that come sooner are dropped, even if they look like the reply to the early request; its
    register is then requested once more. A leftover that comes later is taken for a reply:

    - One of 0x03, more than 45 ms after the request, is used. If the real reply follows within
      the poll, `has_leftover` is true and 0x03 should be requested again.
    - One of the early request's register (four cells: after 23 ms) is used only if that request
      was lost. Otherwise there are two replies, and neither is used.
    """

    def __init__(
        self, counters: Counters, *, early: Command | None = None, is_gentle: bool = False
    ) -> None:
        """Start on a new link.

        Args:
            counters: Where to count requests, resends, frame errors and discarded bytes.
            early: The register that was requested before the subscription.
            is_gentle: Whether the battery gets more time before a request is sent again.
        """
        self._resend_s = GENTLE_RESEND_S if is_gentle else RESEND_S
        self._counters = counters
        self._early = early
        self._early_frame: Frame | None = None
        # This BMS drops requests that arrive while it is replying: it answered the early request,
        # but the next one only after a resend.
        self.drops_requests = False
        self._request: _Request | None = None
        self._command = Command.BASIC_INFO  # of the last request of a register
        self._frame: Frame | None = None  # the reply to the last request
        self._answered: set[int] = set()
        self._received = b""  # the first bytes, to recognise another protocol
        self._first_request_s: float | None = None
        self._open_requests: Counter[int] = Counter()  # requests minus replies, by register
        if early is not None:
            self._open_requests[early] += 1

    def request(self, command: Command, *, now_s: float, give_up_s: float) -> None:
        """Request a register, unless the early request was for it and its reply can be used."""
        early_frame, self._early_frame = self._early_frame, None
        if early_frame is not None and early_frame.register == command:
            self._frame = early_frame
            return
        self._frame = None
        if self._first_request_s is None:
            self._first_request_s = now_s
        assembler = FrameAssembler(command, self._answered, self._early)
        self._command = command
        self._start(encode_request(command), assembler, now_s, give_up_s)

    def authenticate(self, password: PasswordExchange, *, now_s: float) -> None:
        """Prove the password, before any register is requested."""
        self._start(password.request, password, now_s, GIVE_UP_S)

    def _start(
        self, data: bytes, reply: FrameAssembler | PasswordExchange, now_s: float, give_up_s: float
    ) -> None:
        self._request = _Request(data, reply, now_s, give_up_s, now_s + give_up_s)
        self._counters.requests += 1

    @property
    def is_waiting(self) -> bool:
        """Whether a request is under way."""
        return self._request is not None

    @property
    def data_to_send(self) -> bytes:
        """What to write now, before a call of `data_sent`; empty: wait for bytes."""
        request = self._request
        return b"" if request is None or request.resend_at_s is not None else request.data

    @property
    def deadline_s(self) -> float:
        """When to call `timed_out`, while writing and while waiting; infinite: never."""
        request = self._request
        if request is None:
            return float("inf")
        if request.resend_at_s is None:
            return request.give_up_at_s
        return min(request.resend_at_s, request.give_up_at_s)

    def data_sent(self, now_s: float) -> None:
        """Note that `data_to_send` was written."""
        if self._request is not None:
            self._request.resend_at_s = now_s + self._resend_s

    def receive_data(self, data: bytes, *, at_s: float, now_s: float) -> None:
        """Take a notification that came at `at_s`.

        A reply that has begun delays the resend to UNFINISHED_S after `now_s`: the reply to a
        second request would interleave with it.

        Raises:
            AuthError: The password was refused, or the battery sends requests back instead of
                answering them.
        """
        request = self._request
        if request is None:
            self._counters.discarded_bytes += len(data)
        elif isinstance(request.reply, PasswordExchange):
            self._receive_answer(request, request.reply, data, at_s, now_s)
        else:
            self._receive_frames(request, request.reply, data, at_s, now_s)

    def timed_out(self, now_s: float) -> None:
        """Send the request again, or give up.

        Raises:
            ProtocolError: Complete frames came in time, none of them valid.
            ReplyTimeoutError: Nothing complete came in time.
        """
        request = self._request
        if request is None:
            return
        resend_at_s = request.resend_at_s
        if resend_at_s is None or max(now_s, resend_at_s) >= request.give_up_at_s:
            raise self._no_reply(request)
        if isinstance(request.reply, FrameAssembler):
            request.reply.doubt()
        self._counters.resends += 1
        request.resend_at_s = None

    def stop(self) -> None:
        """End the request under way, if any, and count its frames and bytes.

        Call it after an exception, a lost link or the end of the poll's time.
        """
        request, self._request = self._request, None
        if request is None or isinstance(request.reply, PasswordExchange):
            return
        assembler = request.reply
        assembler.forget()
        self._counters.frame_errors.update(assembler.errors)
        self._counters.discarded_bytes += assembler.discarded
        self._open_requests[self._command] += 1 + assembler.resends
        self._open_requests.subtract(assembler.late)

    def payload(self) -> bytes:
        """Return the payload that answered the last request.

        Raises:
            DeviceError: The reply's status is not 0.
        """
        frame = self._frame
        if frame is None:
            raise RuntimeError("no request was answered")
        if frame.status:
            raise DeviceError(
                f"register {frame.register:#04x}: expected status 0x00 (ok), "
                f"got {frame.status:#04x} ({status_name(frame.status)})"
            )
        return frame.payload

    def has_leftover(self, command: Command) -> bool:
        """Return whether more replies came than requests were sent."""
        return self._open_requests[command] < 0

    @property
    def has_received(self) -> bool:
        """Whether anything came while a register was requested."""
        return bool(self._received)

    @property
    def another_protocol(self) -> BmsError | None:
        """The error for a battery that answers in another protocol; None: it does not."""
        return another_protocol_error(self._received)

    def _receive_answer(
        self, request: _Request, password: PasswordExchange, data: bytes, at_s: float, now_s: float
    ) -> None:
        if at_s < request.started_s:
            self._counters.discarded_bytes += len(data)
        elif password.feed(data):
            request.data, request.started_s, request.resend_at_s = password.request, now_s, None
            self._counters.requests += 1
        elif password.done:
            self._request = None

    def _receive_frames(
        self, request: _Request, assembler: FrameAssembler, data: bytes, at_s: float, now_s: float
    ) -> None:
        self._received += data[: KEPT - len(self._received)]
        possible = 0 if at_s < request.started_s else self._possible_bytes(at_s)
        frames = assembler.feed(data, possible)
        self._open_requests[self._command] -= len(frames)
        if assembler.echoed:
            raise PairingError(
                f"the battery sends requests back unanswered, it wants pairing: {HOW_TO_PAIR}"
            )
        if frames:
            self._frame = frames[-1]
            self.stop()
            self._settle_early(self._command, assembler)
            self._answered.add(self._command)
        elif assembler.pending:
            request.resend_at_s = now_s + UNFINISHED_S
        elif assembler.early_frame is not None:
            # Only now does the BMS start on this request.
            request.resend_at_s = now_s + self._resend_s

    def _possible_bytes(self, at_s: float) -> int:
        """Return how many bytes of a reply the serial line can have carried by `at_s`.

        This drops the first reply of a BMS with a faster line, but not the reply to the resend.
        """
        elapsed_s = at_s - (self._first_request_s or 0.0)
        return max(0, int(elapsed_s / BYTE_S) - REQUEST_SIZE)

    def _settle_early(self, command: Command, assembler: FrameAssembler) -> None:
        """At the first reply to a later request, decide whether the early reply can be used."""
        if self._early is None:
            return
        self._early_frame = assembler.early_frame
        was_answered = assembler.early_frames or (
            command == self._early and assembler.leftover_seen
        )
        self.drops_requests = bool(was_answered and assembler.resends)
        self._answered.add(self._early)  # a reply to it from now on is late
        self._early = None

    def _no_reply(self, request: _Request) -> BmsError:
        seconds = f"in {request.give_up_s:g} s"
        if isinstance(request.reply, PasswordExchange):
            return ReplyTimeoutError(
                f"no answer to the password exchange {seconds}: "
                "remove password_file if this battery has no password"
            )
        register = f"register {self._command:#04x}"
        if errors := request.reply.errors:
            counts = ", ".join(f"{n} x wrong {error}" for error, n in errors.items())
            return ProtocolError(f"{register}: no valid reply {seconds}: {counts}")
        what = "no complete reply, only pieces," if request.reply.pending else "no reply"
        return self.another_protocol or ReplyTimeoutError(f"{register}: {what} {seconds}")
