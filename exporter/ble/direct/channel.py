"""An open ATT channel: sends requests, awaits their responses, passes notifications on."""

import asyncio
import logging
import socket
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from exporter.ble.direct.att import MTU_REQUEST, OUR_MTU, Answer, Att, Event, Notification, Reaction
from exporter.errors import Cause, LinkLostError
from exporter.recording.recorder import Recorder

log = logging.getLogger(__name__)

ANSWER_S: Final = 5.0  # the specification allows 30 s, which is a whole poll
LONGEST_PDU: Final = 1024

T = TypeVar("T")


class NoAnswerError(LinkLostError):
    """The battery did not answer a request; the channel is closed."""

    cause = Cause.GATT


class AttChannel:
    """One socket to a battery."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        adapter: str = "",
        recorder: Recorder | None = None,
    ) -> None:
        """Read from a connected socket, which the channel will close; `address` is for the log."""
        self._socket: socket.socket | None = sock
        self.address = address
        self.adapter = adapter
        self.recorder = recorder
        self._att = Att()
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[bytes] | None = None
        self._listener: tuple[int, Callable[[bytes], None]] | None = None  # and its handle
        self.on_lost: list[Callable[[], None]] = []  # called when it ends without `close`
        asyncio.get_running_loop().add_reader(sock, self._readable, sock)

    @property
    def is_open(self) -> bool:
        """Whether the connection exists."""
        return self._socket is not None

    def listen(self, handle: int, listener: Callable[[bytes], None]) -> None:
        """Call `listener` with each value of this characteristic; replaces an earlier one."""
        self._listener = (handle, listener)

    async def run(self, procedure: Generator[bytes, bytes, T]) -> T:
        """Carry out a procedure of several requests; return its result.

        Raises:
            PairingError: The battery wants pairing.
            LinkLostError: The connection ended, or the battery refused.
        """
        try:
            pdu = next(procedure)
            while True:
                pdu = procedure.send(await self.request(pdu))
        except StopIteration as done:
            result: T = done.value
            return result

    async def request(self, pdu: bytes) -> bytes:
        """Send one request and return its response, which may be a refusal.

        Raises:
            NoAnswerError: No response came.
            LinkLostError: The connection ended.
        """
        async with self._turn:
            self._answer = asyncio.get_running_loop().create_future()
            try:
                await self.send(self._att.request(pdu))
                async with asyncio.timeout(ANSWER_S):
                    return await self._answer
            except TimeoutError:
                self.close()
                raise NoAnswerError(f"no answer to ATT request {pdu[0]:#04x}") from None
            finally:
                self._answer = None

    async def exchange_mtu(self) -> None:
        """Say how long a PDU may be; a server that refuses keeps to 23 bytes.

        Raises:
            LinkLostError: The connection ended, or no answer came.
        """
        answer = await self.request(bytes([MTU_REQUEST]) + OUR_MTU.to_bytes(2, "little"))
        log.debug("MTU", extra={"address": self.address, "answer": answer.hex()})

    async def send(self, pdu: bytes) -> None:
        """Send one PDU. Raises LinkLostError if the connection ended."""
        if self._socket is None:
            raise LinkLostError("not connected")
        if self.recorder is not None:
            self.recorder.sent(pdu)
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, pdu)
        except OSError as error:
            raise LinkLostError(f"send: {error.strerror}") from error

    def close(self) -> None:
        """Close the socket; the kernel then ends the connection."""
        self._end("us")

    def _end(self, by: str, number: int | None = 0) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            if self.recorder is not None:
                self.recorder.closed(by, number)
        self._listener = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkLostError("the connection ended"))

    def _readable(self, sock: socket.socket) -> None:
        try:
            pdu = sock.recv(LONGEST_PDU)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error), error.errno)
            return
        if not pdu:
            self._lost("the battery ended the connection")
        elif self.recorder is not None:
            self.recorder.received(pdu)
        for event in self._att.receive(pdu):
            self._handle(event, sock)

    def _handle(self, event: Event, sock: socket.socket) -> None:
        match event:
            case Notification(handle, value):
                if self._listener is not None and self._listener[0] == handle:
                    self._listener[1](value)
            case Answer(answer):
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(answer)
            case Reaction(reaction):
                if self.recorder is not None:
                    self.recorder.sent(reaction)
                try:
                    sock.send(reaction)
                except OSError as error:  # closed, or the battery sends requests but does not read
                    self._lost(error.strerror or str(error))

    def _lost(self, reason: str, number: int | None = 0) -> None:
        log.debug("connection ended", extra={"address": self.address, "error": reason})
        self._end("battery", number)
        for callback in self.on_lost:
            callback()
