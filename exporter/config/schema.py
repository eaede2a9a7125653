"""The configuration as frozen dataclasses, and a parser for each kind of value."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final, NewType

from exporter.config.local_time import (
    MORNING,
    NIGHT,
    Night,
    TimeOfDay,
    ZoneName,
    parse_night,
    parse_time_of_day,
    parse_timezone,
)
from exporter.config.presentation import (
    CRITICAL,
    LOW,
    Presentation,
    Threshold,
    parse_threshold,
)
from exporter.config.yaml_document import Misread, shown
from exporter.protocol.profiles import PROFILES

Seconds = NewType("Seconds", float)
Address = NewType("Address", str)
Name = NewType("Name", str)
AdapterName = NewType("AdapterName", str)
ProfileName = NewType("ProfileName", str)
Variable = NewType("Variable", str)
ProxyName = NewType("ProxyName", str)
Host = NewType("Host", str)
Port = NewType("Port", int)

DURATION: Final = re.compile(
    r"(?=\d)(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+)ms)?",
    re.ASCII,
)
UNIT_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
ADDRESS: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
SOME: Final = 3  # colons that few names have
DIGITS: Final = re.compile(r"[0-9A-F]{12}")
SEPARATORS: Final = re.compile(r"[\s.,:_'\"“”-]")
UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
LIKE: Final = "A4:C1:38:12:34:56"
ADAPTER: Final = re.compile(r"hci[0-9]{1,3}")
HOST: Final = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?", re.ASCII)
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_NAME: Final = 64
PASSWORD_LENGTH: Final = 6
ESPHOME_PORT: Final = Port(6053)
MAX_PORT: Final = 65535


class TransportChoice(StrEnum):
    """The values of `link`: which transport reaches a battery."""

    AUTO = "auto"  # direct if the kernel allows it, else bluez
    DIRECT = "direct"  # the kernel's own sockets
    BLUEZ = "bluez"  # bluetoothd


class SettingsChoice(StrEnum):
    """The values of `settings`: when the settings of a battery are read."""

    OFF = "off"
    DAILY = "daily"


Link = TransportChoice | ProxyName
"""The values of a battery's `link`: a transport over the adapters, or the name of a proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryConfig:
    """One battery of the file."""

    name: Name
    address: Address
    adapter: AdapterName | None = None  # None: `Routes` chooses by signal and load
    link: Link | None = None  # None: the file's `link`, and all proxies
    gentle: bool = False  # the gentle style from the first poll on
    profile: ProfileName | None = None  # None: found in the GATT table
    cells: bool = True  # register 0x04
    hardware: bool = True  # register 0x05
    counters: bool = True  # register 0xAA
    settings: SettingsChoice = SettingsChoice.OFF  # registers 0x10 to 0x3F
    temperatures: tuple[Name | None, ...] = ()  # the first NTCs; None: an empty socket
    low: Threshold | None = None  # None: the file's `low`
    critical: Threshold | None = None  # None: the file's `critical`
    password_file: str | None = None
    password_env: Variable | None = None
    password: bytes | None = field(default=None, repr=False)  # from the file or variable

    @property
    def transport(self) -> TransportChoice | None:
        """The transport over the adapters that is configured; None: none is, or a proxy."""
        return self.link if isinstance(self.link, TransportChoice) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """One ESPHome Bluetooth proxy of the file."""

    name: ProxyName
    host: Host
    port: Port = ESPHOME_PORT
    key_file: str | None = None
    key_env: Variable | None = None
    key: str | None = field(default=None, repr=False)  # base64; None: the proxy has no encryption


class Wiring(StrEnum):
    """The values of `wiring`: how the batteries of a bank are connected."""

    PARALLEL = "parallel"
    SERIES = "series"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankConfig:
    """Batteries that are wired together, by name."""

    name: Name
    batteries: tuple[Name, ...]
    wiring: Wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class PollConfig:
    """When batteries are read, and how long a reading is shown."""

    timeout_s: Seconds = Seconds(30.0)
    min_interval_s: Seconds = Seconds(10.0)
    max_age_s: Seconds = Seconds(120.0)
    backoff_max_s: Seconds = Seconds(300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementConfig:
    """The uses of the kernel's management socket, which needs CAP_NET_ADMIN."""

    release: bool = True
    parameters: bool = True
    power: bool = True
    rssi: bool = False  # some Bluetooth chips leave this request unanswered, which blocks others


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    batteries: tuple[BatteryConfig, ...]
    banks: tuple[BankConfig, ...] = ()
    proxies: tuple[ProxyConfig, ...] = ()
    link: TransportChoice = TransportChoice.AUTO
    management: ManagementConfig = field(default_factory=ManagementConfig)
    poll: PollConfig = field(default_factory=PollConfig)
    low: Threshold = LOW
    critical: Threshold = CRITICAL
    timezone: ZoneName | None = None  # None: the machine's
    morning: TimeOfDay = MORNING
    night: Night = NIGHT

    def presentation(self, battery: BatteryConfig) -> Presentation:
        """Return what is shown of a battery, from its own options and those of the file."""
        return Presentation(
            low=battery.low or self.low,
            critical=battery.critical or self.critical,
            sensors=battery.temperatures,
        )


RANGES_S: Final = {  # of PollConfig: least and greatest
    "timeout": (1.0, 600.0),  # a poll over BlueZ takes about 2 s
    "min_interval": (0.0, 3600.0),
    "max_age": (0.0, 86400.0),
    "backoff_max": (1.0, 86400.0),
}


def key_of(attribute: str) -> str:
    """Return the key in the file: there the unit belongs to the value, not to the name."""
    return attribute.removesuffix("_s")


def parse_duration(value: object) -> Seconds:
    """Return the seconds in "30s", "1m30s", "500ms" or 0. Raises ValueError for anything else."""
    if value == 0 and type(value) is int:
        return Seconds(0.0)
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            f"expected a duration with its unit like 10s, 2m or 500ms, got {shown(value)}"
        )
    return Seconds(sum(float(match[unit] or 0) * unit_s for unit, unit_s in UNIT_S.items()))


def show_duration(duration_s: float) -> str:
    """Return a duration as people write it: 90 s is "90s", 7200 s is "2h"."""
    unit = next((unit for unit in "hm" if duration_s and duration_s % UNIT_S[unit] == 0), "s")
    return f"{duration_s / UNIT_S[unit]:g}{unit}" if duration_s else "0"


def is_address(text: str) -> bool:
    """Return whether a text is a Bluetooth address, with colons or dashes."""
    return ADDRESS.fullmatch(text.strip().upper().replace("-", ":")) is not None


def likely_address(text: str) -> Address | None:
    """Return the address that is meant by twelve hex digits with any separators, or with none."""
    digits = SEPARATORS.sub("", text).upper()
    if not DIGITS.fullmatch(digits):
        return None
    return Address(":".join(digits[at : at + 2] for at in range(0, len(digits), 2)))


def normal_address(value: object) -> Address:
    """Return a Bluetooth address in upper case with colons. Raises ValueError for others."""
    if not isinstance(value, str) or not is_address(value):
        meant = likely_address(value) if isinstance(value, str) else None
        if meant is not None:
            cure = f"did you mean {meant}?"
        elif isinstance(value, str) and UUID.fullmatch(value):
            cure = "macOS shows this in its place; bms-exporter scan shows the address"
        else:
            cure = "bms-exporter scan shows it"
        raise ValueError(f"expected a Bluetooth address like {LIKE}, got {shown(value)}: {cure}")
    return Address(value.strip().upper().replace("-", ":"))


def wrong_address(text: str) -> str | None:
    """Return what is wrong with a text that is meant as an address; None: it may be a name."""
    if text.count(":") < SOME and likely_address(text) is None:
        return None
    try:
        normal_address(text)
    except ValueError as error:
        return str(error)
    return None


def normal_name(value: object) -> Name:
    """Return the name of a battery unchanged.

    Raises:
        ValueError: It is not text, empty, too long, not printable, or has blanks around it.
    """
    if isinstance(value, Misread):
        advice = f'put it in quotes, "{value}"'
        text = f"expected a name, and YAML reads {value} as {value.kind}: {advice}"
        raise ValueError(text)  # noqa: TRY004 - as all here
    if value is None or value == "":
        raise ValueError("expected a name like camper, got nothing")
    if not isinstance(value, str):
        raise ValueError(f"expected a name like camper, got {shown(value)}")  # noqa: TRY004
    if len(value) > MAX_NAME:
        raise ValueError(f"expected a name of at most {MAX_NAME} characters, got {len(value)}")
    if not value.isprintable():
        raise ValueError(f"expected a name in one line, without control characters, got {value!r}")
    if value != value.strip():
        raise ValueError(f"expected a name without blanks around it, got {value!r}")
    return Name(value)


def parse_adapter(value: object) -> AdapterName:
    """Return the name of an adapter, or its address, which a USB reset does not change.

    Raises:
        ValueError: It is neither like hci0 nor a Bluetooth address.
    """
    if isinstance(value, str) and ADAPTER.fullmatch(value):
        return AdapterName(value)
    try:
        return AdapterName(normal_address(value))
    except ValueError:
        raise ValueError(
            f"expected an adapter like hci0, or its address, got {shown(value)}"
        ) from None


def parse_proxy_name(value: object) -> ProxyName:
    """Return the name of a proxy.

    Raises:
        ValueError: It is no name, or means something else as a link or an adapter.
    """
    name: str = normal_name(value)
    if name in list(TransportChoice) or ADAPTER.fullmatch(name):
        raise ValueError(f"{name} has another meaning: choose another name")
    return ProxyName(name)


def parse_link(value: object) -> Link | None:
    """Return a transport, or the name of a proxy, which the loader compares with the known ones."""
    if isinstance(value, str) and value not in list(TransportChoice):
        return ProxyName(value)
    return None if value is None else TransportChoice(_one_of(list(TransportChoice), value))


def _host(value: object) -> Host:
    if not (isinstance(value, str) and HOST.fullmatch(value)):
        raise ValueError(f"expected an IP address or a host name, got {shown(value)}")
    if value.count(":") == 1:
        raise ValueError(f"expected a host alone, got {value!r}: the port has its own key, port")
    return Host(value)


def _port(value: object) -> Port:
    if not (type(value) is int and 0 < value <= MAX_PORT):
        raise ValueError(f"expected a port, 1 to {MAX_PORT}, got {shown(value)}")
    return Port(value)


def _one_of(choices: Sequence[str], value: object) -> str:
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"expected one of {', '.join(choices)}, got {shown(value)}")
    return choices[choices.index(value)]


def _settings(value: object) -> SettingsChoice:
    return SettingsChoice(_one_of(list(SettingsChoice), "off" if value is False else value))


def _variable(value: object) -> Variable:
    if not (isinstance(value, str) and VARIABLE.fullmatch(value)):
        # Not quoted: it may be the password itself.
        raise ValueError("expected the name of an environment variable, like CAMPER_PIN")
    return Variable(value)


def _file_name(value: object) -> str:
    if not isinstance(value, str):
        # Not quoted: it may be the password itself.
        raise ValueError("expected the name of a file, in quotes")  # noqa: TRY004
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {shown(value)}")  # noqa: TRY004
    return value


PARSERS: Final[Mapping[Any, Callable[[object], object]]] = {  # each raises ValueError
    Seconds: parse_duration,
    Address: normal_address,
    Name: normal_name,
    AdapterName: parse_adapter,
    ProfileName: partial(_one_of, list(PROFILES)),
    TransportChoice: partial(_one_of, list(TransportChoice)),
    SettingsChoice: _settings,  # YAML reads off as false
    Wiring: partial(_one_of, list(Wiring)),
    Threshold: parse_threshold,
    Link | None: parse_link,
    ProxyName: parse_proxy_name,
    Host: _host,
    Port: _port,
    Variable: _variable,
    ZoneName: parse_timezone,
    TimeOfDay: parse_time_of_day,
    Night: parse_night,
    str: _file_name,
    bool: _bool,
}
