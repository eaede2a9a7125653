"""Passwords and rate limit, independent of the HTTP server."""

import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from exporter.config.web import WebConfig, cost
from exporter.web.fair_queue import CLIENTS, FairQueue

REMEMBERED: Final = 100  # correct passwords, which cost no bcrypt at the next scrape

Verify = Callable[[bytes, Sequence[str]], Awaitable[bool]]


class Verdict(Enum):
    """The decision about a request."""

    ALLOWED = auto()
    REFUSED = auto()  # 401: the password is missing or wrong
    BUSY = auto()  # 429: too many passwords wait to be checked


class Login(NamedTuple):
    """The user of a long-lived response, checked again while it lasts."""

    name: str = ""
    hashed: str = ""


class Access:
    """Checks requests against the current web configuration, one password at a time."""

    def __init__(
        self,
        config: Callable[[], WebConfig],
        *,
        clients: int = CLIENTS,
        verify: Verify | None = None,  # replaces bcrypt in tests
    ) -> None:
        """Call `config` for every request; at most `clients` wait for their passwords."""
        self._config = config
        self._verify = verify or _verify_in_thread
        self._limit = RateLimit()
        self._queue = FairQueue(clients)
        self._secret = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()  # keyed digests of hash and password
        self._comparison: asyncio.Task[bool] | None = None

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """The configured headers of every response."""
        return self._config().headers

    def take(self) -> bool:
        """Count a request; return whether the rate limit allows it."""
        config = self._config()
        return self._limit.take(burst=config.rate_burst, interval_s=config.rate_interval_s)

    def allows(self, login: Login) -> bool:
        """Return whether the user is still configured, with the same password hash."""
        users = dict(self._config().users)
        return not users or users.get(login.name) == login.hashed

    async def check(self, authorization: str, client: str) -> tuple[Verdict, Login]:
        """Decide about the `Authorization` header of a request, "" if it has none.

        Correct passwords are remembered. All others cost the same time, whether the user exists or
        not, so that the response time reveals no user names.
        """
        users = dict(self._config().users)
        if not users:
            return Verdict.ALLOWED, Login()
        credentials = _credentials(authorization)
        if credentials is None:
            return Verdict.REFUSED, Login()
        name, password = credentials
        hashes = hashes_to_compare(users, name)
        # No key for an unknown name: its hash is another user's, whose password must not pass.
        key = self._key(hashes[0], password) if name in users else None
        return await self._decide(password, hashes, key, client), Login(name, users.get(name, ""))

    async def _decide(
        self, password: bytes, hashes: Sequence[str], key: bytes | None, client: str
    ) -> Verdict:
        if self._is_remembered(key):
            return Verdict.ALLOWED
        if not await self._queue.take(client):
            return Verdict.BUSY
        if self._is_remembered(key):  # verified meanwhile for another request
            self._queue.release()
            return Verdict.ALLOWED
        # If the client disconnects, the thread continues: the next turn begins after it.
        self._comparison = asyncio.ensure_future(self._compare(password, hashes, key))
        self._comparison.add_done_callback(lambda _: self._queue.release())
        is_right = await asyncio.shield(self._comparison)
        return Verdict.ALLOWED if is_right else Verdict.REFUSED

    def close(self) -> None:
        """Answer BUSY to all passwords that are not remembered, so that the stop is not delayed."""
        self._queue.close()

    async def _compare(self, password: bytes, hashes: Sequence[str], key: bytes | None) -> bool:
        is_right = await self._verify(password, hashes)
        if key is None or not is_right:
            return False
        self._right[key] = None
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True

    def _is_remembered(self, key: bytes | None) -> bool:
        if key is None or key not in self._right:
            return False
        self._right.move_to_end(key)
        return True

    def _key(self, hashed: str, password: bytes) -> bytes:
        return hmac.digest(self._secret, hashed.encode() + password, hashlib.sha256)


class RateLimit:
    """The rate limit of all clients together: a token bucket, full at the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens = float("inf")  # as many as the burst, which may change
        self._filled_at_s = clock()

    def take(self, *, burst: int, interval_s: float) -> bool:
        """Count a request; return whether it is allowed. 0 for either argument: no limit."""
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


def hashes_to_compare(users: Mapping[str, str], name: str) -> Sequence[str]:
    """Return a user's hash, and further ones so that each user takes as long as the costliest.

    A comparison takes 2 to the power of the hash's cost c. Further ones of c, c+1, ..., m-1 make it
    2**m together, as long as a hash of the greatest cost m. An unknown user gets that hash.
    """
    costliest = max(users.values(), key=cost)
    hashed = users.get(name, costliest)
    fillers = (f"$2b${number:02d}${'.' * 53}" for number in range(cost(hashed), cost(costliest)))
    return hashed, *fillers


def _credentials(authorization: str) -> tuple[str, bytes] | None:
    """Return the name and password in a header's value; None: it has none."""
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
    """Return whether the password has the first hash; if not, compare it with the others, too."""
    return await asyncio.to_thread(_verify, password, *hashes)


def _verify(password: bytes, hashed: str, *fillers: str) -> bool:
    is_right = _has_hash(password, hashed)
    for filler in () if is_right else fillers:
        _has_hash(password, filler)
    return is_right


def _has_hash(password: bytes, hashed: str) -> bool:
    import bcrypt  # noqa: PLC0415 - 1 MB that an exporter without users saves

    try:
        # PHP and htpasswd write 2y for 2b.
        return bcrypt.checkpw(password, hashed.replace("$2y$", "$2b$", 1).encode())
    except ValueError:  # bcrypt before 5.0 refuses a NUL
        return False
