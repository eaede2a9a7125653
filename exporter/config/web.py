"""The file of --web.config.file, with every key of Prometheus' exporter-toolkit."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exporter.config.files import ChangeDetector, read_config, stamp
from exporter.config.schema import parse_duration
from exporter.config.section import Section
from exporter.config.tls import (
    TLS_KEYS,
    TLS_SECTION,
    Tls,
    TlsConfig,
    make_tls,
    read_tls,
    weakenings,
)
from exporter.config.yaml_document import read_yaml
from exporter.errors import ConfigError

log = logging.getLogger(__name__)

KEYS: Final = {  # by section; "" is the file itself
    "": (TLS_SECTION, "http_server_config", "basic_auth_users", "rate_limit"),
    TLS_SECTION: TLS_KEYS,
    "http_server_config": ("http2", "headers"),
    "rate_limit": ("interval", "burst"),
}
HEADERS: Final[dict[str, tuple[str, ...]]] = {  # that the toolkit allows; (): any value
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
BCRYPT: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
NO_HASH: Final = "expected a bcrypt hash: htpasswd -nBC 10 NAME makes one"
MAX_COST: Final = 18  # as in the toolkit's own example: some 20 s, once; 31 takes a day


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The whole file."""

    tls: TlsConfig | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # name, bcrypt hash
    rate_interval_s: float = 0.0  # one request in this time, beyond the burst; 0: no limit
    rate_burst: int = 0


class WebConfigFile:
    """The newest valid configuration of a file, and the TLS context made from it."""

    def __init__(self, path: Path) -> None:
        """Read the file and the certificates that it names.

        Raises:
            ConfigError: One of them cannot be read, is wrong, or needs what Python cannot do.
        """
        self._path = path
        self._file = ChangeDetector(stamp(path))
        self._config = load(path)
        settings = self._config.tls
        self._certificates = ChangeDetector(_sources(settings))
        self._tls = None if settings is None else make_tls(settings)

    def current(self) -> WebConfig:
        """Return the newest valid configuration."""
        if self._file.is_due(stamp(self._path)):
            with _keeping_old(self._file, "web configuration not read again, the old one stays"):
                config = load(self._path)
                _raise_weakened(self._path, self._config, config)
                self._config = config
                log.info("web configuration read again")
        return self._config

    def current_tls(self) -> Tls | None:
        """Return the context of the newest settings and certificates; None: TLS is off.

        Every change makes a new context, which refuses the session tickets of the old one. So no
        client stays accepted because it was accepted before the change.
        """
        settings = self.current().tls
        if settings is not None and self._certificates.is_due(_sources(settings)):
            with _keeping_old(self._certificates, "certificates not read again, the old ones stay"):
                self._tls = make_tls(settings)
                log.info("certificates read again")
        return self._tls


@contextmanager
def _keeping_old(changes: ChangeDetector, message: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        changes.note_failure()
        for problem in error.problems:
            log.error(message, extra={"error": problem})  # noqa: TRY400 - a user's mistake


def _sources(tls: TlsConfig | None) -> tuple[object, ...]:
    """Return a value that changes when the context must be made again."""
    return tls, *(stamp(path) for path in (tls.files if tls else ()))


def _raise_weakened(path: Path, before: WebConfig, after: WebConfig) -> None:
    """Refuse a file that might accept clients that the running configuration refuses.

    Editors write a file in pieces: for a moment, users or client certificates may be missing.

    Raises:
        ConfigError: The file lacks something; the error lists everything.
    """
    problems = []
    if after == WebConfig() != before:
        problems.append("the file is empty")
    if before.users and not after.users:
        problems.append(
            "basic_auth_users: users are required until a restart, and the file names none"
        )
    problems += weakenings(before.tls, after.tls)
    if problems:
        raise ConfigError([f"{path}:1: {problem}" for problem in problems])


def load(path: Path) -> WebConfig:
    """Read a web configuration, without the certificates that it names.

    Raises:
        ConfigError: As for `WebConfigFile`.
    """
    return parse(read_config(path), path.parent, str(path))


def parse(text: str, folder: Path, source: str = "web.yml") -> WebConfig:
    """Return the configuration in the text of file `source`; paths are relative to `folder`.

    Raises:
        ConfigError: The text has mistakes; the error lists all of them.
    """
    document = read_yaml(text, source, verbatim=HEADERS)  # X-XSS-Protection: 0
    complaints = list(document.duplicates)
    root, tls, http, rate = (
        Section(document, complaints, keys, name) for name, keys in KEYS.items()
    )
    interval_s, burst = _rate(rate)
    # Something else under this key was reported.
    has_tls = TLS_SECTION in root.data and isinstance(root.data[TLS_SECTION], dict | None)
    config = WebConfig(
        tls=read_tls(tls, folder) if has_tls else None,
        headers=_headers(http),
        users=_users(root),
        rate_interval_s=interval_s,
        rate_burst=burst,
    )
    if complaints:
        raise document.error(complaints)
    return config


def _headers(section: Section) -> tuple[tuple[str, str], ...]:
    if section.value("http2", bool):
        section.complain(
            "http2",
            "HTTP/2 is not served (SECURITY.md says why); without this line clients use HTTP/1.1",
        )
    headers = section.texts("headers")
    for name, value in headers.items():
        key = f"headers.{name}"
        if name not in HEADERS:
            section.complain(
                key, f"this header cannot be set: expected one of {', '.join(HEADERS)}"
            )
        elif not (value.isprintable() and value.isascii()):
            section.complain(key, "expected printable ASCII characters")
        elif value and HEADERS[name] and value not in HEADERS[name]:
            section.complain(key, f"expected {' or '.join(HEADERS[name])}")
    return tuple((name, value) for name, value in headers.items() if value)


def _users(root: Section) -> tuple[tuple[str, str], ...]:
    key = "basic_auth_users"
    users = root.texts(key, NO_HASH)
    if key in root.data and not root.data[key]:
        root.complain(key, "it names no user: add one, or remove this line to let everyone read")
    for name, hashed in users.items():
        key = f"basic_auth_users.{name}"
        if BCRYPT.fullmatch(hashed) is None:
            root.complain(key, NO_HASH)
        elif cost(hashed) > MAX_COST:
            root.complain(key, f"expected a cost of at most {MAX_COST}, got {cost(hashed)}")
        if ":" in name or not name:
            root.complain(key, "expected a name without a colon")
    return tuple(users.items())


def cost(hashed: str) -> int:
    """Return the cost of a bcrypt hash; its computation takes 2 to that power."""
    return int(hashed.split("$")[2])


def _rate(section: Section) -> tuple[float, int]:
    is_given = section.data.get("burst") is not None
    burst = section.value("burst", int)
    if burst is None and is_given:
        return 0.0, 0  # a complaint says so
    burst = burst or 0
    interval_s = 0.0
    if section.data.get("interval") is not None:
        try:
            interval_s = parse_duration(section.data["interval"])
        except ValueError as error:
            section.complain("interval", str(error))
    if burst < 0 or (interval_s and not burst):
        section.complain("burst", "expected 1 or more requests at once")
    return interval_s, burst
