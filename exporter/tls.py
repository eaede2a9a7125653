"""Encrypted connections that follow their files."""

import logging
import os
import ssl
from asyncio import sslproto
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from exporter.errors import ConfigError
from exporter.webconfig import Tls

log = logging.getLogger(__name__)

# asyncio gives each connection 256 kB to read into, which makes 300 silent clients cost 77 MB.
# One record of TLS is at most this long.
sslproto.SSLProtocol.max_size = 16 * 1024


def context_of(tls: Tls, *, http2: bool) -> ssl.SSLContext:
    """Return the context for these settings.

    Raises:
        ConfigError: A file cannot be read, or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    with ExitStack() as stack:
        cert = tls.cert_file or _in_memory(tls.cert or "", stack)
        key = tls.key_file or _in_memory(tls.key or "", stack)
        try:
            # An encrypted key would be asked for at the terminal: here it has no password.
            context.load_cert_chain(cert, key, password=lambda: b"")
        except (OSError, ValueError) as error:
            files = f"{tls.cert_file or 'cert'}, {tls.key_file or 'key'}"
            raise ConfigError([f"tls_server_config: {files}: {_reason(error)}"]) from error
    try:
        if tls.ciphers:
            context.set_ciphers(":".join(tls.ciphers))
        if tls.curve is not None:
            context.set_ecdh_curve(tls.curve)
    except (OSError, ValueError) as error:
        raise ConfigError([f"tls_server_config: {_reason(error)}"]) from error
    if tls.client_auth is not ssl.CERT_NONE:
        context.verify_mode = tls.client_auth
        try:
            if tls.client_ca_file or tls.client_ca:
                context.load_verify_locations(cafile=tls.client_ca_file, cadata=tls.client_ca)
            else:  # as Go does: the machine's own authorities
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        except (OSError, TypeError, ValueError) as error:  # TypeError: client_ca is not ASCII
            authority = tls.client_ca_file or "client_ca"
            raise ConfigError([f"tls_server_config: {authority}: {_reason(error)}"]) from error
    return context


class _Connection(ssl.SSLObject):
    """The server's end of a connection, which looks at who the client's certificate names."""

    allowed: Callable[[Mapping[str, Any]], bool]

    def do_handshake(self) -> None:
        """Shake hands. Raises ssl.SSLError if this client is not wanted."""
        super().do_handshake()
        if not type(self).allowed(self.getpeercert() or {}):
            raise ssl.SSLCertVerificationError("no name of client_allowed_sans in it")


def names_in(certificate: Mapping[str, Any]) -> set[str]:
    """Return the subject's alternative names, addresses in their shortest form."""
    return {
        str(ip_address(value)) if kind == "IP Address" else value
        for kind, value in certificate.get("subjectAltName", ())
        if kind in ("DNS", "IP Address", "email", "URI")
    }


class Certificates:
    """A context whose certificates are those of the files at every handshake."""

    def __init__(self, settings: Callable[[], Tls | None], *, http2: bool) -> None:
        """Load them. Raises ConfigError."""
        self._settings = settings
        self._http2 = http2
        self._loaded = self._now()
        self._newest = self._make()
        self.context = self._newest
        """What the server uses; it hands every connection to the newest one."""

    def _now(self) -> tuple[Tls | None, tuple[tuple[int, int, int] | None, ...]]:
        tls = self._settings()
        return tls, tuple(stamp(path) for path in tls.files) if tls else ()

    def _make(self) -> ssl.SSLContext:
        tls = self._settings()
        if tls is None:
            raise ConfigError(["tls_server_config: it is gone; a restart serves without TLS"])
        context = context_of(tls, http2=self._http2)
        context.sni_callback = self._hello
        context.sslobject_class = type("Connection", (_Connection,), {"allowed": self._allowed})
        return context

    def _allowed(self, certificate: Mapping[str, Any]) -> bool:
        tls = self._loaded[0]
        allowed = tls.allowed_sans if tls else ()
        return not (certificate and allowed) or not names_in(certificate).isdisjoint(allowed)

    def _hello(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        now = self._now()
        if now != self._loaded:
            self._loaded = now
            try:
                self._newest = self._make()
                log.info("certificates read again")
            except ConfigError as error:
                log.error(  # noqa: TRY400 - a user's mistake
                    "certificates not read again, the old ones stay", extra={"error": str(error)}
                )
        connection.context = self._newest


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None: it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _in_memory(text: str, stack: ExitStack) -> Path:
    """Return a path of a file that only this process has: Python's ssl takes no text."""
    number = os.memfd_create("certificate")
    stack.callback(os.close, number)
    os.write(number, text.encode())
    return Path(f"/proc/self/fd/{number}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
