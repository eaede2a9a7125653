"""Passwords and rate limit, independent of the HTTP server."""

import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from exporter.config.web import WebConfig, cost

REMEMBERED: Final = 100  # right passwords, so that a scrape costs no bcrypt
WAITING: Final = 20  # requests in all, or one of each client: 4 s at 0.2 s each
WAITING_EACH: Final = 3  # requests of one client
CLIENTS: Final = 250  # that wait or have waited: each keeps a connection

Verify = Callable[[bytes, Sequence[str]], Awaitable[bool]]


class Verdict(Enum):
    """The decision about a request."""

    ALLOWED = auto()
    REFUSED = auto()  # 401: the password is missing or wrong
    BUSY = auto()  # 429: too many passwords wait to be checked


class Passwords:
    """Checks passwords against bcrypt hashes, one at a time."""

    def __init__(self, verify: Verify | None = None, *, clients: int = CLIENTS) -> None:
        """Start with nothing remembered; `verify` replaces bcrypt in tests."""
        self._verify = verify or _verify_in_thread
        self._turns = Turns(clients)
        self._secret = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()  # keyed digests of hash and password
        self._comparison: asyncio.Task[bool] | None = None

    async def check(self, users: Mapping[str, str], authorization: str, client: str) -> Verdict:
        """Decide about one request.

        Only right passwords are remembered, and every other one costs the same time, whether
        the user exists or not: the time of the answer reveals no user names.

        Args:
            users: Bcrypt hashes by user name; without users every request is allowed.
            authorization: The value of the request's header; "" when it has none.
            client: The IPv4 address or the IPv6 /64 prefix.
        """
        if not users:
            return Verdict.ALLOWED
        credentials = _credentials(authorization)
        if credentials is None:
            return Verdict.REFUSED
        name, password = credentials
        hashes = hashes_to_compare(users, name)
        # For an unknown name the hash is another user's, whose password must not be accepted.
        key = self._key(hashes[0], password) if name in users else None
        if self._is_remembered(key):
            return Verdict.ALLOWED
        if not await self._turns.take(client):
            return Verdict.BUSY
        if self._is_remembered(key):  # an earlier request has just verified it
            self._turns.release()
            return Verdict.ALLOWED
        # The thread goes on when a client disconnects; the next turn comes after it.
        self._comparison = asyncio.ensure_future(self._compare(password, hashes, key))
        self._comparison.add_done_callback(lambda _: self._turns.release())
        is_right = await asyncio.shield(self._comparison)
        return Verdict.ALLOWED if is_right else Verdict.REFUSED

    def close(self) -> None:
        """Answer waiting requests, and all passwords that are not remembered, with BUSY.

        So the stop does not wait for the passwords of an attack.
        """
        self._turns.close()

    async def _compare(self, password: bytes, hashes: Sequence[str], key: bytes | None) -> bool:
        is_right = await self._verify(password, hashes) and key is not None
        if key is not None and is_right:
            self._right[key] = None
            if len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
        return is_right

    def _is_remembered(self, key: bytes | None) -> bool:
        if key is None or key not in self._right:
            return False
        self._right.move_to_end(key)
        return True

    def _key(self, hashed: str, password: bytes) -> bytes:
        return hmac.digest(self._secret, hashed.encode() + password, hashlib.sha256)


class Turns:
    """Grants one turn at a time, to each client in rotation.

    A client that leaves keeps its place in the rotation: a scraper that times out and tries again
    is not behind those that came after its first request. So every client that comes back gets
    its turn after at most one turn of each of the others, of which there are at most `clients`.
    """

    def __init__(self, clients: int = CLIENTS) -> None:
        self._most_clients = clients
        self._is_taken = False
        self._is_closed = False
        self._waiting: dict[str, deque[asyncio.Future[bool]]] = {}  # in the order of the rotation

    async def take(self, client: str) -> bool:
        """Wait for a turn, which must be released; return False when too many requests wait.

        A client that has nobody waiting is always let in, until `clients` of them wait. Beyond
        `WAITING` requests the newest one of the client with most of them gives way.
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
            if len(self._waiting) >= self._most_clients and not self._forget_one():
                return None
            waiting = self._waiting[client] = deque()
        if len(waiting) >= WAITING_EACH:
            return None
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        if sum(map(len, self._waiting.values())) > WAITING:
            most = max(self._waiting.values(), key=len)
            crowded = waiting if len(waiting) == len(most) else most
            if len(crowded) > 1:
                crowded.pop().set_result(False)
        return turn

    def _forget_one(self) -> bool:
        """Forget the last client in the rotation without a waiting request; False: none is left."""
        for client in reversed(self._waiting):
            if not self._waiting[client]:
                del self._waiting[client]
                return True
        return False

    def close(self) -> None:
        """Refuse all waiting requests, and all later ones."""
        self._is_closed = True
        for waiting in self._waiting.values():
            while waiting:
                waiting.popleft().set_result(False)

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


class RateLimit:
    """The rate limit of all clients together: a token bucket, full at the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens = float("inf")  # as many as the burst, which may change
        self._filled_at_s = clock()

    def take(self, *, burst: int, interval_s: float) -> bool:
        """Whether one more request is allowed; 0 for either argument means no limit."""
        if not burst or not interval_s:
            return True
        now_s = self._clock()
        filled = (now_s - self._filled_at_s) / interval_s
        self._tokens = min(float(burst), self._tokens + filled)
        self._filled_at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class Login:
    """The user of a long-lived response, who is checked again while it lasts."""

    name: str
    hashed: str

    @classmethod
    def from_header(cls, users: Mapping[str, str], authorization: str) -> "Login":
        """Return the login of a request that was allowed with these users."""
        name, _ = _credentials(authorization) or ("", b"")
        return cls(name, users.get(name, ""))

    def is_allowed(self, users: Mapping[str, str]) -> bool:
        """Whether these users still have the same user with the same password hash."""
        return not users or users.get(self.name) == self.hashed


def hashes_to_compare(users: Mapping[str, str], name: str) -> Sequence[str]:
    """Return the hash of a user, and hashes that make a comparison as costly as the costliest.

    A comparison costs 2 to the power of the hash's cost. One of cost c and further ones of
    c, c+1, ... up to m-1 make 2**m together, which is what the costliest one takes alone. The
    name of a user that does not exist gets the costliest hash.
    """
    costliest = max(users.values(), key=cost)
    hashed = users.get(name, costliest)
    fillers = (f"$2b${number:02d}${'.' * 53}" for number in range(cost(hashed), cost(costliest)))
    return hashed, *fillers


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    """Return name and password out of a header's value; None when it has none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        # bcrypt uses 72 bytes, and newer versions refuse more.
        return (name.decode(), password[:72]) if colon else None
    except ValueError:  # neither base64 nor UTF-8
        return None


async def _verify_in_thread(password: bytes, hashes: Sequence[str]) -> bool:
    """Whether the password has the first hash; if not, compare it with the others as well."""

    def verify() -> bool:
        is_right = _has_hash(password, hashes[0])
        if not is_right:
            for filler in hashes[1:]:
                _has_hash(password, filler)
        return is_right

    return await asyncio.to_thread(verify)


def _has_hash(password: bytes, hashed: str) -> bool:
    import bcrypt  # noqa: PLC0415 - 1 MB that an exporter without users saves

    try:
        # 2y is what PHP and htpasswd call 2b.
        return bcrypt.checkpw(password, hashed.replace("$2y$", "$2b$", 1).encode())
    except ValueError:  # bcrypt before 5.0 refuses a NUL
        return False


class Access:
    """Checks requests against the current web configuration."""

    def __init__(self, config: Callable[[], WebConfig], *, clients: int = CLIENTS) -> None:
        """Ask `config` for every request; so many clients may wait for their passwords."""
        self._config = config
        self._passwords = Passwords(clients=clients)
        self._limit = RateLimit()

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The configured headers of every response."""
        return self._config().headers

    def take(self) -> bool:
        """Whether one more request is within the rate limit."""
        config = self._config()
        return self._limit.take(burst=config.rate_burst, interval_s=config.rate_interval_s)

    async def check(self, authorization: str, client: str) -> tuple[Verdict, Login]:
        """Decide about one request, and return who sent it; see `Passwords.check`."""
        users = dict(self._config().users)
        verdict = await self._passwords.check(users, authorization, client)
        return verdict, Login.from_header(users, authorization)

    def close(self) -> None:
        """Refuse all waiting requests; see `Passwords.close`."""
        self._passwords.close()

    def allows(self, login: Login) -> bool:
        """Whether a login is still allowed."""
        return login.is_allowed(dict(self._config().users))
