"""The file of --web.config.file: the format of Prometheus' exporter-toolkit, every key of it."""

import logging
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from exporter.config.files import ChangeDetector, read_config, stamp
from exporter.config.schema import parse_duration
from exporter.config.yaml_document import Document, read_yaml, unknown_key
from exporter.errors import ConfigError

log = logging.getLogger(__name__)

# Go's names of what both Go and OpenSSL have; TLS 1.3's are not chosen in either.
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
}
TLS13: Final = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
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
# Go asks for a certificate and does not look at it in the two that are missing.
CLIENT_AUTH: Final = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
HEADERS: Final[dict[str, tuple[str, ...]]] = {  # those that the toolkit allows; (): any value
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
BCRYPT: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
SECRET: Final = ("cert", "key", "client_ca")  # of which nothing is quoted
COSTLIEST: Final = 18  # the toolkit's own example has it: some 20 s, once; 31 would take a day
KNOWN: Final = {
    "": ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"),
    "tls_server_config": (
        "cert_file", "key_file", "cert", "key", "client_ca_file", "client_ca", "client_auth_type",
        "client_allowed_sans", "min_version", "max_version", "cipher_suites",
        "prefer_server_cipher_suites", "curve_preferences",
    ),
    "http_server_config": ("http2", "headers"),
    "rate_limit": ("interval", "burst"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The settings of TLS; `client_ca` is PEM text."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_ca: str | None = None
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    allowed_sans: tuple[str, ...] = ()  # one of them must be in a client's certificate; (): any
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True
    curve: str | None = None

    @property
    def has_client_ca(self) -> bool:
        """Whether a configured authority must sign client certificates, not one of the machine."""
        return bool(self.client_ca_file or self.client_ca)

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that may change."""
        named = (self.cert_file, self.key_file, self.client_ca_file)
        return tuple(path for path in named if path is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The whole file."""

    tls: Tls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # name, bcrypt hash
    rate_interval_s: float = 0.0  # a request each, beyond the burst; 0: as many as they want
    rate_burst: int = 0


class WebConfigFile:
    """A web configuration that follows its file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ConfigError."""
        self._path = path
        self._changes = ChangeDetector(stamp(path))
        self._config = load(path)

    def current(self) -> WebConfig:
        """Return the newest valid configuration of the file."""
        if self._changes.is_due(stamp(self._path)):
            try:
                config = load(self._path)
                _raise_weakened(self._path, self._config, config)
            except ConfigError as error:
                self._changes.note_failure()
                for problem in error.problems:
                    log.error(  # noqa: TRY400 - a user's mistake
                        "web configuration not read again, the old one stays",
                        extra={"error": problem},
                    )
            else:
                self._config = config
                log.info("web configuration read again")
        return self._config


def _raise_weakened(path: Path, before: WebConfig, after: WebConfig) -> None:
    """Refuse a file that lets in clients whom the running one keeps out.

    Editors write a file in pieces: the part that names users or client certificates may be
    missing for a moment.

    Raises:
        ConfigError: With everything that is missing.
    """
    problems = []
    if after == WebConfig() != before:
        problems.append("the file is empty")
    if before.users and not after.users:
        problems.append(
            "basic_auth_users: users are required until a restart, and the file names none"
        )
    if before.tls is None and after.tls is not None:
        problems.append("tls_server_config: TLS begins with a restart only")
    elif before.tls is not None and after.tls is None:
        problems.append("tls_server_config: TLS is required until a restart, and it is missing")
    elif before.tls is not None and after.tls is not None:
        problems += _weakened_tls(before.tls, after.tls)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])


def _weakened_tls(before: Tls, after: Tls) -> list[str]:
    name = "tls_server_config"
    problems = []
    if after.client_auth < before.client_auth:
        problems.append(f"{name}.client_auth_type: it cannot be weakened without a restart")
    if before.allowed_sans and not after.allowed_sans:
        problems.append(
            f"{name}.client_allowed_sans: names are required until a restart, and there are none"
        )
    # Without client_ca_file the machine's authorities would do, which are all public ones.
    if before.has_client_ca and not after.has_client_ca:
        problems.append(f"{name}.client_ca_file: it is required until a restart, and it is missing")
    return problems


def load(path: Path) -> WebConfig:
    """Read a web configuration.

    Raises:
        ConfigError: It cannot be read, is wrong, or asks for what Python cannot do.
    """
    return parse(read_config(path), path.parent, str(path))


def parse(text: str, folder: Path, source: str = "web.yml") -> WebConfig:
    """Turn the text of the file `source` into a WebConfig; relative paths begin at `folder`.

    Raises:
        ConfigError: With every mistake in it.
    """
    document = read_yaml(text, source, verbatim=HEADERS)  # X-XSS-Protection: 0
    reader = _Reader(document)
    tls = _tls(reader, folder) if "tls_server_config" in reader.section("") else None
    if reader.text("http_server_config", "http2", bool):
        reader.complain(
            "http_server_config.http2",
            "HTTP/2 is not served (SECURITY.md tells why); without this line clients use HTTP/1.1",
        )
    headers = reader.mapping("http_server_config", "headers")
    for name, value in headers.items():
        path = f"http_server_config.headers.{name}"
        if name not in HEADERS:
            reader.complain(path, f"expected one of {', '.join(HEADERS)}")
        elif not (value.isprintable() and value.isascii()):
            reader.complain(path, "expected printable ASCII characters")
        elif value and HEADERS[name] and value not in HEADERS[name]:
            reader.complain(path, f"expected {' or '.join(HEADERS[name])}")
    users = reader.mapping("", "basic_auth_users")
    for name, hashed in users.items():
        path = f"basic_auth_users.{name}"
        match = BCRYPT.fullmatch(hashed)
        if match is None:
            reader.complain(path, "expected a bcrypt hash: htpasswd -nBC 10 NAME makes one")
        elif int(match[1]) > COSTLIEST:
            reader.complain(path, f"expected a cost of at most {COSTLIEST}, got {match[1]}")
        if ":" in name or not name:
            reader.complain(path, "expected a name without a colon")
    interval_s, burst = _rate(reader)
    reader.raise_problems()
    return WebConfig(
        tls=tls,
        headers=tuple((name, value) for name, value in headers.items() if value),
        users=tuple(users.items()),
        rate_interval_s=interval_s,
        rate_burst=burst,
    )


class _Reader:
    """Takes values out of the document and collects what is wrong with them."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems = list(document.duplicates)
        if document.data is not None and not isinstance(document.data, dict):
            self.complain("", "expected a mapping (key: value)")
        for name, known in KNOWN.items():
            for key in self.section(name):
                if key not in known:
                    self.complain(f"{name}.{key}".removeprefix("."), unknown_key(key, known))

    def complain(self, path: str, text: str) -> None:
        self._problems.append(self._document.complaint(path, text))

    def raise_problems(self) -> None:
        if self._problems:
            raise self._document.error(self._problems)

    def section(self, name: str) -> dict[str, Any]:
        data = self._document.data if isinstance(self._document.data, dict) else {}
        found = data.get(name) if name else data
        if found is None:
            return {}
        if not isinstance(found, dict):
            self.complain(name, "expected a mapping (key: value)")
            return {}
        return found

    def text(self, section: str, key: str, kind: type = str) -> Any:
        value = self.section(section).get(key)
        if value is None or type(value) is kind:
            return value
        words = {str: "text", bool: "true or false", int: "a number"}
        got = "" if key in SECRET else f", got {value!r}"
        self.complain(f"{section}.{key}", f"expected {words[kind]}{got}")
        return None

    def mapping(self, section: str, key: str) -> dict[str, str]:
        path = f"{section}.{key}".removeprefix(".")
        found = self.section(section).get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            self.complain(path, "expected a mapping (name: value)")
            return {}
        for name, value in found.items():
            if not isinstance(value, str):
                self.complain(f"{path}.{name}", "expected text")
        return {name: value for name, value in found.items() if isinstance(value, str)}

    def names(self, section: str, key: str) -> list[str]:
        found = self.section(section).get(key)
        if found is None:
            return []
        if not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
            self.complain(f"{section}.{key}", "expected a list of names")
            return []
        return found

    def choice(self, section: str, key: str, choices: dict[str, Any], usual: str) -> Any:
        value = self.text(section, key)
        if value is not None and value not in choices:
            known = ", ".join(name for name in choices if name)
            self.complain(f"{section}.{key}", f"expected one of {known}")
            value = None
        return choices[usual if value is None else value]


def _tls(reader: _Reader, folder: Path) -> Tls:
    name = "tls_server_config"

    def file(key: str) -> Path | None:
        value = reader.text(name, key)
        return folder / value if value else None

    _check_certificate(reader, name)
    auth = reader.text(name, "client_auth_type")
    if auth in UNVERIFIED:
        reader.complain(
            f"{name}.client_auth_type",
            f"{auth} asks for a certificate and does not verify it, which Python's ssl cannot do; "
            "use VerifyClientCertIfGiven or RequireAndVerifyClientCert",
        )
        verify = ssl.CERT_NONE
    else:
        verify = reader.choice(name, "client_auth_type", CLIENT_AUTH, "")
    for key in ("client_ca_file", "client_ca", "client_allowed_sans"):
        if verify is ssl.CERT_NONE and reader.section(name).get(key) and auth not in UNVERIFIED:
            reader.complain(f"{name}.{key}", "it is given, and client_auth_type verifies nothing")
    versions = [
        reader.choice(name, key, VERSIONS, usual)
        for key, usual in (("min_version", "TLS12"), ("max_version", "TLS13"))
    ]
    if versions[0] > versions[1]:
        reader.complain(f"{name}.min_version", "expected at most max_version")
    prefer = reader.text(name, "prefer_server_cipher_suites", bool)
    return Tls(
        cert_file=file("cert_file") or folder,  # that it is missing was reported
        key_file=file("key_file") or folder,
        client_ca_file=file("client_ca_file"),
        client_ca=reader.text(name, "client_ca"),
        client_auth=verify,
        allowed_sans=tuple(reader.names(name, "client_allowed_sans")),
        min_version=versions[0],
        max_version=versions[1],
        ciphers=_ciphers(reader, name),
        prefer_server_ciphers=prefer is not False,
        curve=_curve(reader, name),
    )


def _check_certificate(reader: _Reader, name: str) -> None:
    if reader.text(name, "client_ca") and reader.text(name, "client_ca_file"):
        reader.complain(f"{name}.client_ca", "client_ca_file is given too; one of them is enough")
    for one in ("cert", "key"):
        if reader.text(name, one):
            reader.complain(f"{name}.{one}", f"write it to a file: {one}_file")
        elif not reader.text(name, f"{one}_file"):
            reader.complain(name, f"expected {one}_file")


def _ciphers(reader: _Reader, name: str) -> tuple[str, ...]:
    chosen = []
    for number, cipher in enumerate(reader.names(name, "cipher_suites")):
        if cipher in CIPHERS:
            chosen.append(CIPHERS[cipher])
        elif cipher not in TLS13:  # those are always on, in Go as well
            reader.complain(
                f"{name}.cipher_suites[{number}]", f"{cipher}: not known to Python's OpenSSL"
            )
    return tuple(chosen)


def _curve(reader: _Reader, name: str) -> str | None:
    curves = reader.names(name, "curve_preferences")
    for number, curve in enumerate(curves):
        if curve not in CURVES:
            reader.complain(
                f"{name}.curve_preferences[{number}]",
                f"{curve}: Python's ssl knows {', '.join(CURVES)}",
            )
    if len(curves) > 1:
        reader.complain(
            f"{name}.curve_preferences", "Python's ssl takes one curve, or chooses among all"
        )
    return CURVES.get(curves[0]) if curves else None


def cost(hashed: str) -> int:
    """Return the cost of a bcrypt hash: its computation takes 2 to the power of it."""
    match = BCRYPT.fullmatch(hashed)
    return int(match[1]) if match else 0


def _rate(reader: _Reader) -> tuple[float, int]:
    section = reader.section("rate_limit")
    burst = reader.text("rate_limit", "burst", int) or 0
    interval_s = 0.0
    if section.get("interval") is not None:
        try:
            interval_s = parse_duration(section["interval"])
        except ValueError as error:
            reader.complain("rate_limit.interval", str(error))
    if burst < 0 or (interval_s and not burst):
        reader.complain("rate_limit.burst", "expected 1 or more requests at once")
    return interval_s, burst
