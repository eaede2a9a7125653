"""The options of the command line, a class for each command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from exporter.app import ServeOptions
from exporter.config.files import PLACES
from exporter.config.schema import AdapterName, Seconds
from exporter.logs import LogFormat

CONFIG_FILE: Final = PLACES[0]
EXPORTER_URL: Final = "http://127.0.0.1:12200"  # a machine without /etc/hosts has no localhost
SCAN_S: Final = Seconds(10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """The options of the log."""

    level: str  # one of logs.LEVELS
    log_format: LogFormat
    redact_addresses: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Serve the configured batteries."""

    web: ServeOptions
    config_file: Path = CONFIG_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Check the configuration and exit."""

    config_file: Path = CONFIG_FILE
    web_config: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Print a configuration with every option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Serve virtual batteries."""

    web: ServeOptions
    speed: float = 1.0
    replay: Sequence[tuple[str, Path]] = ()  # name and recording; none: the simulated batteries


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Read one battery once."""

    battery: str | None = None  # name or address; None: the only one that is configured
    record: Path | None = None  # where to record the session
    replay: Path | None = None  # the recording to read instead of a battery
    demo: bool = False  # read a virtual battery
    format: Literal["table", "json", "metrics"] = "table"
    config_file: Path = CONFIG_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Read the settings of one battery once."""

    battery: str | None = None  # as in Read
    all: bool = False  # also those that no metric needs
    demo: bool = False  # as in Read
    format: Literal["table", "json", "metrics"] = "table"
    config_file: Path = CONFIG_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """List the batteries nearby."""

    adapter: AdapterName | None = None
    proxy: str | None = None  # the name of a configured proxy, instead of an adapter
    demo: bool = False  # find the virtual batteries
    duration_s: Seconds = SCAN_S
    all: bool = False  # list other devices, too
    read: bool = True  # read the candidates that are not certain
    config_file: Path = CONFIG_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """Explain recorded frames."""

    frames: Sequence[str]  # hex, files, or - for standard input
    format: Literal["explain", "json", "metrics"] = "explain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Find out why batteries cannot be read."""

    batteries: Sequence[str] = ()  # names and addresses; none: all that are configured
    quick: bool = False  # without radio
    link: Literal["direct", "bluez", "both"] | None = None  # None: what may help
    json_file: Path | None = None
    record: Path | None = None  # where to record the sessions with the batteries
    show_addresses: bool = False
    exporter_url: str = EXPORTER_URL
    config_file: Path = CONFIG_FILE


Options = Serve | Check | Example | Demo | Read | ReadSettings | Scan | Decode | Doctor
