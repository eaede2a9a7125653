"""A queue in which many requests of one client do not keep other clients waiting."""

import asyncio
from collections import deque
from typing import Final

WAITING: Final = 20  # requests, 4 s at 0.2 s each; beyond it each client may have one
WAITING_EACH: Final = 3  # requests of one client
CLIENTS: Final = 250  # clients in the rotation; each that waits keeps a connection


class FairQueue:
    """Grants one turn at a time, to each client in rotation.

    A client that leaves keeps its place in the rotation, so that a scraper that times out and tries
    again is not put behind later clients. So each client that comes back gets its turn after at
    most one turn of each of the others, of which there are at most `clients`.
    """

    def __init__(self, clients: int = CLIENTS) -> None:
        self._max_clients = clients
        self._is_taken = False
        self._is_closed = False
        self._waiting: dict[str, deque[asyncio.Future[bool]]] = {}  # in the order of the rotation

    async def take(self, client: str) -> bool:
        """Wait for a turn, which must be released; return False if the request is refused.

        If more than WAITING requests wait, the newest one of the client with most of them is
        refused, unless it is its only one. Beyond `clients` waiting clients a new one is refused.
        """
        if self._is_closed:
            return False
        if not self._is_taken:
            self._is_taken = True
            return True
        turn = self._join(client)
        if turn is None:
            return False
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            if not turn.done():
                self._waiting[client].remove(turn)
            elif turn.result():
                self.release()
            raise

    def _join(self, client: str) -> "asyncio.Future[bool] | None":
        waiting = self._waiting.get(client)
        if waiting is None:
            if len(self._waiting) >= self._max_clients and not self._forget_one():
                return None
            waiting = self._waiting[client] = deque()
        if len(waiting) >= WAITING_EACH:
            return None
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        if sum(map(len, self._waiting.values())) > WAITING:
            longest = max(self._waiting.values(), key=len)
            crowded = waiting if len(waiting) == len(longest) else longest
            if len(crowded) > 1:
                crowded.pop().set_result(False)
        return turn

    def _forget_one(self) -> bool:
        """Remove the last client without a waiting request; return False if every client waits."""
        for client in reversed(self._waiting):
            if not self._waiting[client]:
                del self._waiting[client]
                return True
        return False

    def release(self) -> None:
        """End a turn, and grant the next one."""
        for client, waiting in self._waiting.items():
            if waiting:
                del self._waiting[client]
                waiting.popleft().set_result(True)
                if waiting:
                    self._waiting[client] = waiting  # behind all others
                return
        self._waiting.clear()
        self._is_taken = False

    def close(self) -> None:
        """Refuse all waiting requests, and all later ones."""
        self._is_closed = True
        for waiting in self._waiting.values():
            while waiting:
                waiting.popleft().set_result(False)
