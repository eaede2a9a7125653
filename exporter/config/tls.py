"""The TLS settings of the web configuration file, and the TLS context made from them."""

import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from exporter.config.files import read_small, shown_path, why_unreadable
from exporter.config.section import Section
from exporter.config.yaml_document import shown
from exporter.errors import ConfigError

log = logging.getLogger(__name__)

PEM: Final = "-----BEGIN "
TLS_SECTION: Final = "tls_server_config"
TLS_KEYS: Final = (
    "cert_file", "key_file", "cert", "key", "client_ca_file", "client_ca", "client_auth_type",
    "client_allowed_sans", "min_version", "max_version", "cipher_suites",
    "prefer_server_cipher_suites", "curve_preferences",
)  # fmt: skip
# Go's and OpenSSL's names of the ciphers that both have.
CIPHERS: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    # Those of TLS 1.3 cannot be chosen: they are always on, in Go, too.
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CLIENT_AUTH: Final = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
# With these, Go requests a certificate and does not verify it.
UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")

Admit = Callable[[ssl.SSLSocket], bool]
"""Returns whether to serve a client after the TLS handshake."""
Tls = tuple[ssl.SSLContext, Admit]
CurrentTls = Callable[[], Tls | None]
"""Returns the newest TLS context and the check of its clients; None: TLS is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """The settings of TLS; `client_ca` is PEM text."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_ca: str | None = None
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    allowed_sans: tuple[str, ...] = ()  # a client's certificate must have one; (): any
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True
    curve: str | None = None
    places: Mapping[str, str] = field(default_factory=dict, compare=False)  # FILE:LINE: by key

    def error(self, key: str, text: str) -> ConfigError:
        """Return an error about the setting with this key."""
        return ConfigError([f"{self.places.get(key, '')}{TLS_SECTION}.{key}: {text}"])

    @property
    def has_client_ca(self) -> bool:
        """Whether configured authorities verify client certificates, not those of the machine."""
        return bool(self.client_ca_file or self.client_ca)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that TLS needs, which may change."""
        named = (self.cert_file, self.key_file, self.client_ca_file)
        return tuple(path for path in named if path is not None)


def read_tls(section: Section, folder: Path) -> TlsConfig:
    """Return the settings in `tls_server_config`; paths are relative to `folder`."""

    def path(key: str) -> Path | None:
        name = section.value(key, str)
        if name and PEM in name:  # not quoted: it may be the secret key
            section.complain(key, "write it into a file, and the name of the file here")
            return None
        return folder / name if name else None

    for key in ("cert", "key"):
        if section.value(key, str):
            section.complain(key, f"write it into a file, and its name as {key}_file")
        elif section.data.get(f"{key}_file") in (None, "") and not section.has_unknown_key:
            section.complain("", f"expected {key}_file, with the name of a file")
    min_version = section.choice("min_version", VERSIONS, "TLS12")
    max_version = section.choice("max_version", VERSIONS, "TLS13")
    if min_version > max_version and "min_version" in section.data:
        section.complain("min_version", "expected at most max_version")
    elif min_version > max_version:
        section.complain("max_version", "expected at least min_version (TLS12, the default)")
    curves = _openssl_names(
        section, "curve_preferences", CURVES, f"expected one of {', '.join(CURVES)}"
    )
    if len(section.names("curve_preferences")) > 1:
        section.complain("curve_preferences", "Python's ssl takes one curve, or chooses among all")
    return TlsConfig(
        cert_file=path("cert_file") or folder,  # that it is missing was reported
        key_file=path("key_file") or folder,
        client_ca_file=path("client_ca_file"),
        client_ca=section.value("client_ca", str),
        client_auth=_client_auth(section),
        allowed_sans=tuple(section.names("client_allowed_sans")),
        min_version=min_version,
        max_version=max_version,
        ciphers=_openssl_names(
            section, "cipher_suites", CIPHERS, f"expected a name like {next(iter(CIPHERS))}"
        ),
        prefer_server_ciphers=section.value("prefer_server_cipher_suites", bool) is not False,
        curve=curves[0] if curves else None,
        places={key: section.place(key) for key in TLS_KEYS},
    )


def _client_auth(section: Section) -> ssl.VerifyMode:
    if section.value("client_ca", str) and section.value("client_ca_file", str):
        section.complain("client_ca", "client_ca_file is given too: remove one of them")
    name = section.data.get("client_auth_type")
    if name in UNVERIFIED:
        section.complain(
            "client_auth_type",
            f"{name} asks for a certificate and does not verify it, which Python's ssl cannot do; "
            "use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
        )
        return ssl.CERT_NONE
    mode = section.choice("client_auth_type", CLIENT_AUTH, "")
    if mode is ssl.CERT_NONE:
        for key in ("client_ca_file", "client_ca", "client_allowed_sans"):
            if section.data.get(key):
                section.complain(
                    key, "client_auth_type verifies nothing: use RequireAndVerifyClientCert"
                )
    return mode


def _openssl_names(
    section: Section, key: str, known: Mapping[str, str], complaint: str
) -> tuple[str, ...]:
    names = section.names(key)
    for number, name in enumerate(names):
        if name not in known:
            section.complain(f"{key}[{number}]", f"{complaint}, got {shown(name)}")
    return tuple(known[name] for name in names if known.get(name))


def weakenings(before: TlsConfig | None, after: TlsConfig | None) -> list[str]:
    """Return why `after` might accept clients that `before` refuses."""
    if before is None and after is None:
        return []
    if before is None:
        return [f"{TLS_SECTION}: TLS starts only with a restart"]
    if after is None:
        return [f"{TLS_SECTION}: TLS is required until a restart, and it is missing"]
    problems = []
    if after.client_auth < before.client_auth:
        problems.append("client_auth_type: it cannot be weakened without a restart")
    if before.allowed_sans and not after.allowed_sans:
        problems.append(
            "client_allowed_sans: names are required until a restart, and there are none"
        )
    # Without client_ca_file the machine's authorities count, and those are all public ones.
    if before.has_client_ca and not after.has_client_ca:
        problems.append("client_ca_file: it is required until a restart, and it is missing")
    return [f"{TLS_SECTION}.{problem}" for problem in problems]


def make_tls(tls: TlsConfig) -> Tls:
    """Return the TLS context for these settings, and the check of client certificates.

    Raises:
        ConfigError: A file cannot be read, or has the wrong content.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for key, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        _read(tls, key, file)  # OpenSSL does not name the file, and would wait for a pipe
    try:
        # For an encrypted key OpenSSL would ask for a password at the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
    except OSError as error:  # SSLError is one
        from exporter.config.tls_errors import explain_pair  # noqa: PLC0415 - a mistake needs it

        raise tls.error(*explain_pair(error, tls.cert_file, tls.key_file)) from error
    with _refusals(tls, "cipher_suites"):
        if tls.ciphers:
            context.set_ciphers(":".join(tls.ciphers))
    with _refusals(tls, "curve_preferences"):
        if tls.curve is not None:
            context.set_ecdh_curve(tls.curve)
    if tls.client_auth is not ssl.CERT_NONE:
        context.verify_mode = tls.client_auth
        _trust_authorities(context, tls)
    return context, partial(_is_admitted, frozenset(tls.allowed_sans))


def _trust_authorities(context: ssl.SSLContext, tls: TlsConfig) -> None:
    if not tls.has_client_ca:  # as Go does: the machine's own authorities
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    key, authorities = "client_ca", (tls.client_ca or "").encode()
    if tls.client_ca_file is not None:
        key, authorities = "client_ca_file", _read(tls, "client_ca_file", tls.client_ca_file)
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    except (OSError, ValueError) as error:
        from exporter.config.tls_errors import NO_CERTIFICATE  # noqa: PLC0415 - as above

        where = "" if tls.client_ca_file is None else f"{tls.client_ca_file}: "
        raise tls.error(key, where + NO_CERTIFICATE) from error


def _read(tls: TlsConfig, key: str, file: Path) -> bytes:
    try:
        return read_small(file)
    except (OSError, ValueError) as error:
        raise tls.error(key, f"{shown_path(file)}: {why_unreadable(error)}") from error


@contextmanager
def _refusals(tls: TlsConfig, key: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        from exporter.config.tls_errors import explain  # noqa: PLC0415 - as above

        raise tls.error(key, explain(error)) from error


def _is_admitted(allowed_sans: frozenset[str], connection: ssl.SSLSocket) -> bool:
    """Return whether a certificate has an allowed name; the context decides if one is required."""
    certificate = connection.getpeercert()
    if not certificate or not allowed_sans or names_in(certificate) & allowed_sans:
        return True
    log.warning("client certificate refused", extra={"error": "no name of client_allowed_sans"})
    return False


def names_in(certificate: Mapping[str, Any]) -> set[str]:
    """Return the subject's alternative names, IP addresses in their shortest form."""
    names = set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            names.add(value)
        elif kind == "IP Address":
            with suppress(ValueError):  # no address has that many bytes
                names.add(str(ip_address(value)))
    return names
