"""The kernel's sockets, replayed: `DirectTransport` connects to a recorded battery."""

import asyncio
import errno
import os
import socket
from typing import NoReturn

from exporter.ble.direct.channel import LONGEST_PDU
from exporter.ble.direct.kernel import Kernel
from exporter.ble.direct.sockets import ANY_ADDRESS, Adapter
from exporter.recording.session import Event
from exporter.replay.problems import Problems
from exporter.replay.script import (
    Attempt,
    Conversation,
    Delivery,
    UnknownRequestError,
    matches_value,
    restore_value,
)
from exporter.replay.times import Times

VALUE_AT = 3  # behind opcode and handle


class ReplayedKernel:
    """One adapter, and one battery that does what it did in the recording."""

    def __init__(
        self, attempts: list[Attempt], times: Times, problems: Problems, *, stuck: bool, there: bool
    ) -> None:
        """Replay these attempts.

        Args:
            attempts: In order.
            times: When each thing happens.
            problems: Where to note what the recording does not hold.
            stuck: Whether the adapter answered no commands.
            there: Whether there was an adapter.
        """
        self._attempts = iter(attempts)
        self._times = times
        self._problems = problems
        self._stuck = stuck
        self._there = there
        self._looks = 0
        self._peer: _Peer | None = None
        self.kernel = Kernel(
            open_channel=self._open,
            adapters=self._adapters,
            connected_on=lambda _address: 0 if self._peer and self._peer.is_there else None,
            connections=lambda _adapter: [],
            connected_devices=lambda _adapter: [],
        )

    def _adapters(self) -> list[Adapter]:
        self._looks += 1  # it commands, and is answered unless it is stuck
        events = 0 if self._stuck else self._looks
        return [Adapter(0, ANY_ADDRESS, True, self._looks, events)] * self._there  # noqa: FBT003

    async def _open(self, _address: str, kind: int, _adapter: str) -> socket.socket:
        attempt = next(self._attempts, None)
        if attempt is None:
            self._problems.note("the exporter connects again, the recording has no more attempts")
            _fail(errno.ECONNABORTED)
        if attempt.event.get("kind", int, kind) != kind:
            recorded = attempt.event.get("kind", int, kind)
            self._problems.note(
                f"{attempt.event.where}: the exporter connects to an address of type {kind}, "
                f"the recording has {recorded}"
            )
        failure, connected = attempt.failure, attempt.connected
        if connected is None:
            if failure is None or (number := failure.get("errno", int, 0)) == 0:
                await asyncio.Event().wait()  # until the exporter gives up
                raise AssertionError
            await self._times.sleep(failure.t - attempt.event.t)
            _fail(number)
        await self._times.sleep(connected.event.t - attempt.event.t)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in (ours, theirs):
            one.setblocking(False)  # noqa: FBT003 - its interface
        self._peer = _Peer(theirs, attempt, self._times, self._problems)
        return ours


class _Peer:
    """The battery's end of one connection."""

    def __init__(
        self, sock: socket.socket, attempt: Attempt, times: Times, problems: Problems
    ) -> None:
        self._socket = sock
        self._attempt = attempt
        self._times = times
        self._problems = problems
        self._conversation = Conversation(attempt.requests, repeats=times.differ)
        self._queue = times.queue(self._deliver)
        self.is_there = True
        asyncio.get_running_loop().add_reader(sock, self._readable)
        if attempt.connected is not None:
            self._queue.add(attempt.connected.deliveries)

    def _readable(self) -> None:
        try:
            pdu = self._socket.recv(LONGEST_PDU)
        except OSError:
            pdu = b""
        if not pdu:
            self._close()
            return
        try:
            request = self._conversation.ask(lambda event: _matches(event, pdu), pdu.hex())
        except UnknownRequestError as error:
            self._problems.note(str(error))
            self._close()
        else:
            self._queue.add(request.deliveries)

    def _deliver(self, delivery: Delivery) -> None:
        event = delivery.event
        if event.name == "rx" and self._socket.fileno() >= 0:
            pdu = event.data("rx")
            self._send(event, pdu[:VALUE_AT] + restore_value(event, pdu[VALUE_AT:]))
        elif event.name == "closed":
            self._close()

    def _send(self, event: Event, pdu: bytes) -> None:
        try:
            self._socket.send(pdu)
        except BlockingIOError:
            self._problems.note(f"{event.where}: more arrives at once than a connection holds")
            self._close()
        except OSError:  # the exporter has disconnected at this moment
            self._close()

    def _close(self) -> None:
        """Close the socket; the kernel lists the connection until it was gone in the recording."""
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._queue.clear()
        closed, gone = self._attempt.closed, self._attempt.gone
        late_s = gone.t - closed.t if closed is not None and gone is not None else 0.0
        asyncio.get_running_loop().call_later(self._times.scaled(late_s), self._forget)

    def _forget(self) -> None:
        self.is_there = False


def _matches(event: Event, pdu: bytes) -> bool:
    if event.name != "tx":
        return False
    recorded = event.data("tx")
    return recorded[:VALUE_AT] == pdu[:VALUE_AT] and matches_value(
        event, recorded[VALUE_AT:], pdu[VALUE_AT:]
    )


def _fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))
