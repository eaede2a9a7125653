"""Asks a running exporter to leave batteries alone for a while."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from socket import gaierror
from typing import Any, Final
from urllib.parse import quote, urlsplit

from exporter.doctor.check import Check, Fact, State
from exporter.errors import BmsError

QUICK_S: Final = 0.4
FIND_S: Final = 2.0  # an exporter on this machine answers in milliseconds
RELEASE_S: Final = 40.0  # a release waits for the disconnect of a poll under way
OK: Final = 200
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404
REDIRECTS: Final = range(300, 400)
# No statuses of HTTP; Tornado uses 599 alike.
UNRESOLVED: Final = 598  # the name of the host has no address
SILENT: Final = 599  # something listens, and does not answer in HTTP

STOP: Final = (
    "stop it meanwhile (sudo systemctl stop bms-exporter, or docker stop bms-exporter), then start "
    "it again"
)


class Presence(StrEnum):
    """What was found at the URL."""

    NONE = "none"  # nothing listens there
    FOREIGN = "foreign"  # another program
    LOCKED = "locked"  # it wants a user, or does not answer: which batteries it reads is unknown
    OPEN = "open"


class ReleaseError(BmsError):
    """The exporter did not leave a battery alone."""


@dataclass(slots=True)
class RunningExporter:
    """An exporter at a URL, and the batteries that it has left alone for `doctor`."""

    url: str
    presence: Presence = Presence.NONE
    status: int = 0  # of the last response
    names: dict[str, str] = field(default_factory=dict)  # of its batteries, by address
    is_quick: bool = False  # no battery is going to be read
    paused: set[str] = field(default_factory=set)  # names that were released before
    released: list[str] = field(default_factory=list)  # names

    @property
    def place(self) -> str:
        """Host and port: a URL may hold a password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    async def find(self, *, is_quick: bool = False) -> None:
        """Look for the exporter and its batteries."""
        self.is_quick = is_quick
        timeout_s = QUICK_S if is_quick else FIND_S
        self.status, body = await self._request("GET", "/api/v1/batteries", timeout_s)
        if self.status == 0:
            self.presence = Presence.NONE
        elif self.status == OK and (batteries := _batteries(body)) is not None:
            self.presence = Presence.OPEN
            self.names = {one["address"]: one["name"] for one in batteries}
            self.paused = {one["name"] for one in batteries if one.get("paused_until_unix_s")}
        elif self.status in {OK, NOT_FOUND}:
            self.presence = Presence.FOREIGN
        else:
            self.presence = Presence.LOCKED

    async def release(self, address: str) -> None:
        """Have the exporter leave a battery alone; nothing happens if it does not read it.

        Raises:
            ReleaseError: It refused, or its kind of answer is unknown.
        """
        if self.presence is Presence.LOCKED:
            raise ReleaseError(f"the exporter at {self.place} may be reading it")
        name = self.names.get(address)
        if name is None:
            return
        if name not in self.released:
            self.released.append(name)  # before: a release that is cut short counts, too
        status, _ = await self._request("POST", _query("release", name), RELEASE_S)
        if status != OK:
            raise ReleaseError(f"the exporter at {self.place} does not release it (HTTP {status})")

    async def resume(self) -> list[str]:
        """End all releases but those of others; return the names for which that failed."""
        failed = []
        while self.released:
            name = self.released.pop()
            if name not in self.paused:
                status, _ = await self._request("POST", _query("resume", name), FIND_S)
                failed += [] if status == OK else [name]
        return failed

    async def _request(self, method: str, path: str, timeout_s: float) -> tuple[int, bytes]:
        """Return status and body; status 0 if nothing listens, and see above."""
        # Tornado's client is not loaded by anything else.
        from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest  # noqa: PLC0415

        request = HTTPRequest(
            self.url.rstrip("/") + path,
            method=method,
            body=b"" if method == "POST" else None,
            connect_timeout=timeout_s,
            request_timeout=timeout_s,
            follow_redirects=False,
        )
        client = AsyncHTTPClient(force_instance=True)
        try:
            response = await client.fetch(request, raise_error=False)
        except ConnectionRefusedError:
            return 0, b""
        except gaierror:
            return UNRESOLVED, b""
        except (OSError, HTTPError, ValueError):  # it hung up, or speaks TLS, or is too slow
            return SILENT, b""
        finally:
            client.close()
        return response.code, response.body or b""


def _query(action: str, name: str) -> str:
    return f"/api/v1/{action}?battery={quote(name, safe='')}"


def _batteries(body: bytes) -> list[Mapping[str, Any]] | None:
    """Return the batteries of an answer; None: it is not one of an exporter."""
    try:
        batteries = json.loads(body)["batteries"]
        texts = [text for one in batteries for text in (one["name"], one["address"])]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return list(batteries) if all(isinstance(text, str) for text in texts) else None


def check_exporter(exporter: RunningExporter, addresses: Iterable[str]) -> Check:
    """Say whether an exporter runs, and what becomes of its batteries meanwhile."""
    own = [exporter.names[address] for address in addresses if address in exporter.names]
    facts: dict[str, Fact] = {
        "presence": str(exporter.presence),
        "status": exporter.status,
        "batteries": len(exporter.names),
        "released": len(own),
    }
    place = exporter.place
    match exporter.presence:
        case Presence.NONE:
            text = f"none runs at {place}"
        case Presence.FOREIGN:
            text = f"another program answers at {place}"
        case Presence.LOCKED if exporter.is_quick and exporter.status == UNAUTHORIZED:
            text = f"one runs at {place} and wants a user: which batteries it reads is unknown"
            return Check(id="exporter", state=State.NOTE, text=text, facts=facts)
        case Presence.LOCKED:
            return Check(
                id="exporter",
                state=State.WARN,
                text=_describe_locked(exporter),
                facts=facts,
                advice=STOP,
            )
        case Presence.OPEN:
            does = f"it leaves {', '.join(own)} alone meanwhile" if own else "it goes on as before"
            text = f"one runs at {place}; {does}"
    return Check(id="exporter", state=State.OK, text=text, facts=facts)


def _describe_locked(exporter: RunningExporter) -> str:
    place, status = exporter.place, exporter.status
    if status == SILENT:
        return f"{place} does not answer: if an exporter runs there, its batteries are left alone"
    if status == UNRESOLVED:
        return (
            f"the name in {place} cannot be resolved: give an IP address with --exporter; "
            "batteries are left alone"
        )
    if status in REDIRECTS:
        return (
            f"{place} sends elsewhere (HTTP {status}): give that address with --exporter; "
            "batteries are left alone"
        )
    why = "wants a user" if status == UNAUTHORIZED else f"refuses (HTTP {status})"
    return f"one runs at {place} and {why}: its batteries are left alone"
