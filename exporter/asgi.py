"""The words of ASGI, and whole answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qs

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Route = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer(
    send: Send,
    status: int,
    text: str,
    *,
    content_type: bytes = b"text/plain; charset=utf-8",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole answer of one line."""
    body = (text.rstrip("\n") + "\n").encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def named_battery(
    scope: Scope, send: Send, parameter: str, batteries: Mapping[str, object]
) -> str | None:
    """Return the configured battery that the query names; None: there is none, and that is said."""
    names = ", ".join(batteries)
    target: list[str] = parse_qs(scope["query_string"].decode("latin-1")).get(parameter, [])
    if len(target) != 1:
        path = scope["path"]
        await answer(
            send, 400, f"Say which battery, once: {path}?{parameter}=NAME with one of {names}."
        )
    elif target[0] not in batteries:
        await answer(send, 404, f"No battery of that name is configured, only {names}.")
    else:
        return target[0]
    return None


def header(scope: Scope, name: bytes) -> bytes:
    """Return the value of a request's header; empty: it has none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


def network(scope: Scope) -> str:
    """Return who asks: an address, or the network in which IPv6 gives a house all it wants."""
    client = scope.get("client") or ("", 0)
    try:
        address = ip_address(client[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    if isinstance(address, IPv6Address) and mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(mapped or address)
