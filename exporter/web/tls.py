"""TLS contexts that follow their certificate files."""

import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from exporter.config.files import ChangeDetector, Stamp, read_small, stamp
from exporter.config.web import Tls
from exporter.errors import ConfigError

log = logging.getLogger(__name__)

Admit = Callable[[ssl.SSLSocket], bool]
"""Whether a client may go on after the TLS handshake."""


def make_context(tls: Tls) -> ssl.SSLContext:
    """Return the context for these settings.

    Raises:
        ConfigError: A file cannot be read, or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for name, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        _read(name, file)  # says which of them cannot be read, and refuses what is no small file
    try:
        # An encrypted key would be asked for at the terminal: here it has no password.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
    except (OSError, ValueError) as error:
        files = f"{tls.cert_file}, {tls.key_file}"
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
        _trust_authorities(context, tls)
    return context


def _trust_authorities(context: ssl.SSLContext, tls: Tls) -> None:
    """Load the authorities that sign client certificates. Raises ConfigError."""
    authorities = (tls.client_ca or "").encode()
    if tls.client_ca_file is not None:
        authorities = _read("client_ca_file", tls.client_ca_file)
    try:
        if tls.has_client_ca:
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        else:  # as Go does: the machine's own authorities
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (OSError, ValueError) as error:
        where = tls.client_ca_file or "client_ca"
        raise ConfigError([f"tls_server_config: {where}: {_reason(error)}"]) from error


def _read(name: str, file: Path) -> bytes:
    """Return what a file holds. Raises ConfigError."""
    try:
        return read_small(file)
    except (OSError, ValueError) as error:
        raise ConfigError([f"tls_server_config: {name}: {file}: {_reason(error)}"]) from error


def names_in(certificate: Mapping[str, Any]) -> set[str]:
    """Return the subject's alternative names, addresses in their shortest form."""
    names = set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            names.add(value)
        elif kind == "IP Address":
            with suppress(ValueError):  # as many bytes as no address has
                names.add(str(ip_address(value)))
    return names


class Certificates:
    """The TLS context of the newest settings and certificates, made again when a file changes."""

    def __init__(self, settings: Callable[[], Tls | None]) -> None:
        """Load them. Raises ConfigError."""
        self._settings = settings
        self._changes = ChangeDetector(self._now())
        self._newest = self._make()

    def newest(self) -> tuple[ssl.SSLContext, Admit]:
        """Return the context for a new connection, and the check of its client certificate.

        Every change makes a new context, which refuses the session tickets of the old one. So a
        client that was accepted before the change does not stay accepted.
        """
        if self._changes.is_due(self._now()):
            try:
                self._newest = self._make()
                log.info("certificates read again")
            except ConfigError as error:
                self._changes.note_failure()
                log.error(  # noqa: TRY400 - a user's mistake
                    "certificates not read again, the old ones stay", extra={"error": str(error)}
                )
        return self._newest

    def _now(self) -> tuple[Tls | None, tuple[Stamp, ...]]:
        tls = self._settings()
        return tls, tuple(stamp(path) for path in tls.files) if tls else ()

    def _make(self) -> tuple[ssl.SSLContext, Admit]:
        tls = self._settings()
        if tls is None:
            raise ConfigError(["tls_server_config: it is gone; a restart serves without TLS"])
        return make_context(tls), partial(_is_admitted, frozenset(tls.allowed_sans))


def _is_admitted(allowed_sans: frozenset[str], connection: ssl.SSLSocket) -> bool:
    """Whether a client's certificate names one of those allowed; without a certificate, always.

    The context decides whether a certificate is required at all.
    """
    certificate = connection.getpeercert()
    if not certificate or not allowed_sans or names_in(certificate) & allowed_sans:
        return True
    log.warning("client certificate refused", extra={"error": "no name of client_allowed_sans"})
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
