"""YAML to frozen dataclasses: strict, and every complaint at once, with its path and line."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NewType

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from exporter.config.files import read_small
from exporter.config.yaml_document import Document, read_yaml
from exporter.errors import ConfigError
from exporter.protocol.profiles import PROFILES

Seconds = NewType("Seconds", float)
Address = NewType("Address", str)
Name = NewType("Name", str)
Adapter = NewType("Adapter", str)
ProfileName = NewType("ProfileName", str)
Variable = NewType("Variable", str)

DURATION: Final = re.compile(
    r"(?=\d)(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+)ms)?"
)
UNIT_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
ADDRESS: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
ADAPTER: Final = re.compile(r"hci[0-9]{1,3}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_NAME: Final = 64
PASSWORD_LENGTH: Final = 6


class Link(StrEnum):
    """Through what a battery is reached."""

    AUTO = "auto"  # direct where the kernel lets us, else bluez
    DIRECT = "direct"  # the kernel's own sockets
    BLUEZ = "bluez"  # bluetoothd


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryConfig:
    """One battery."""

    name: Name
    address: Address
    adapter: Adapter | None = None  # None: the one that hears it best
    link: Link | None = None  # None: as for all
    profile: ProfileName | None = None  # None: by the battery's GATT table
    cells: bool = True  # register 0x04
    hardware: bool = True  # register 0x05
    counters: bool = True  # register 0xAA
    password_file: str | None = None
    password_env: Variable | None = None
    password: bytes | None = field(default=None, repr=False)  # what one of the two holds


@dataclass(frozen=True, slots=True, kw_only=True)
class PollConfig:
    """How batteries are read."""

    timeout_s: Seconds = Seconds(30.0)
    min_interval_s: Seconds = Seconds(10.0)
    max_age_s: Seconds = Seconds(120.0)
    backoff_max_s: Seconds = Seconds(300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementConfig:
    """What the kernel's management socket is used for, if CAP_NET_ADMIN is given."""

    release: bool = True
    parameters: bool = True
    power: bool = True
    rssi: bool = False  # one that a Bluetooth chip may leave unanswered, and then all wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    batteries: tuple[BatteryConfig, ...]
    link: Link = Link.AUTO
    management: ManagementConfig = field(default_factory=ManagementConfig)
    poll: PollConfig = field(default_factory=PollConfig)


RANGES_S: Final = {  # least and greatest, in seconds, and why
    "timeout": (1.0, 600.0),  # a poll over BlueZ takes about 2 s
    "min_interval": (0.0, 3600.0),
    "max_age": (0.0, 86400.0),
    "backoff_max": (1.0, 86400.0),
}


def load(path: Path) -> Config:
    """Read a configuration file and the password files that it names.

    Raises:
        ConfigError: The file cannot be read, or holds at least one mistake.
    """
    try:
        text = read_small(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            [f"{path}: cannot be read: {reason}; see config.example.yaml, or --config.file"]
        ) from error
    try:
        config = parse(text)
        return replace(config, batteries=tuple(_with_passwords(config, path.parent)))
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error


def parse(text: str) -> Config:
    """Turn the text of a configuration file into a Config.

    Raises:
        ConfigError: With every mistake in it.
    """
    document = read_yaml(text, verbatim={"address"})
    for section in ("poll", "management"):
        if isinstance(document.data, dict) and document.data.get(section, {}) is None:
            del document.data[section]  # every line of it is commented out
    problems = list(document.problems)
    config: Config | None = None
    try:
        config = _converter().structure(document.data, Config)
    except (BaseValidationError, TypeError, AttributeError) as error:
        problems += _structure_problems(error, document)
    problems += _battery_problems(document)
    problems += _poll_problems(document)
    if problems or config is None:
        raise ConfigError(sorted(problems, key=_line_of))
    return config


def parse_duration(text: object) -> Seconds:
    """Return the seconds in "30s", "1m30s", "500ms" or 0.

    Raises:
        ValueError: It is something else.
    """
    if text == 0 and type(text) is int:
        return Seconds(0.0)
    match = DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a duration with its unit like 10s, 2m or 500ms, got {text!r}")
    return Seconds(sum(float(match[unit] or 0) * unit_s for unit, unit_s in UNIT_S.items()))


def normal_address(text: str) -> Address:
    """Return a Bluetooth address in upper case with colons.

    Raises:
        ValueError: It is not one.
    """
    address = text.strip().upper().replace("-", ":")
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"not a Bluetooth address like A4:C1:38:00:00:01: {text!r}")
    return Address(address)


def _address(value: object, _type: object) -> Address:
    return normal_address(value if isinstance(value, str) else repr(value))


def normal_name(text: str) -> Name:
    """Return a name that a battery may have.

    Raises:
        ValueError: It is empty, long, not printable, or has blanks around it.
    """
    if not (0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()):
        raise ValueError(
            f"expected 1 to {MAX_NAME} printable characters without blanks around them, "
            f"got {text!r}"
        )
    return Name(text)


def _name(value: object, _type: object) -> Name:
    if not isinstance(value, str):
        raise ValueError(f'expected text, got {value!r}: put it in quotes, "{value}"')  # noqa: TRY004
    return normal_name(value)


def _adapter(value: object, _type: object) -> Adapter:
    if not (isinstance(value, str) and ADAPTER.fullmatch(value)):
        raise ValueError(f"expected an adapter like hci0, got {value!r}")
    return Adapter(value)


def _profile(value: object, _type: object) -> ProfileName:
    if not isinstance(value, str) or value not in PROFILES:
        raise ValueError(f"expected one of {', '.join(PROFILES)}, got {value!r}")
    return ProfileName(str(value))


def _link(value: object, _type: object) -> Link:
    if not isinstance(value, str) or value not in list(Link):
        raise ValueError(f"expected one of {', '.join(Link)}, got {value!r}")
    return Link(value)


def _variable(value: object, _type: object) -> Variable:
    if not (isinstance(value, str) and VARIABLE.fullmatch(value)):
        # Not quoted: it may be the password itself.
        raise ValueError("expected the name of an environment variable, like CAMPER_PIN")
    return Variable(value)


def _text(value: object, _type: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected the name of a file, in quotes")  # noqa: TRY004 - it may be a PIN
    return value


def _bool(value: object, _type: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")  # noqa: TRY004
    return value


def _converter() -> Converter:
    """Return a converter that converts nothing: cattrs' own hooks make "7" a number."""
    converter = Converter(forbid_extra_keys=True)
    for kind, hook in {
        Seconds: lambda value, _: parse_duration(value),
        Address: _address,
        Name: _name,
        Adapter: _adapter,
        ProfileName: _profile,
        Link: _link,
        Variable: _variable,
        str: _text,
        bool: _bool,
    }.items():
        converter.register_structure_hook(kind, hook)
    renamed: Any = {f.name: override(rename=_key(f.name)) for f in fields(PollConfig)}
    converter.register_structure_hook(
        PollConfig,
        make_dict_structure_fn(
            PollConfig,
            converter,
            _cattrs_forbid_extra_keys=True,
            **renamed,
        ),
    )
    converter.register_structure_hook(
        BatteryConfig,
        make_dict_structure_fn(
            BatteryConfig, converter, _cattrs_forbid_extra_keys=True, password=override(omit=True)
        ),
    )
    batteries = tuple[BatteryConfig, ...]
    structure_batteries = converter.get_structure_hook(batteries)

    def battery_list(value: object, kind: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"expected a list of batteries, got {value!r}")  # noqa: TRY004
        return structure_batteries(value, kind)

    converter.register_structure_hook_func(lambda kind: kind == batteries, battery_list)
    return converter


def _key(attribute: str) -> str:
    """Return the key in the file: there the unit stands in the value, in code in the name."""
    return attribute.removesuffix("_s")


def _structure_problems(error: Exception, document: Document) -> Iterator[str]:
    """Turn cattrs' tree of errors into our lines."""

    def message(error: BaseException, kind: Any) -> str:
        if isinstance(error, ForbiddenExtraKeysError):
            known = [_key(f.name) for f in fields(error.cl) if f.repr]
            return "\n".join(f"{key}\t{_unknown(key, known)}" for key in error.extra_fields)
        if isinstance(error, KeyError):
            return "missing"
        if isinstance(error, TypeError | AttributeError) and (kind is None or is_dataclass(kind)):
            return "expected a mapping (key: value)"
        return str(error)

    for line in transform_error(error, format_exception=message):
        text, _, place = line.rpartition(" @ ")
        path = _key(place.removeprefix("$").removeprefix("."))
        for part in text.split("\n"):
            key, tab, complaint = part.rpartition("\t")
            yield document.complaint(f"{path}.{key}".removeprefix(".") if tab else path, complaint)


def _unknown(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"unknown key, did you mean {near[0]}?" if near else "unknown key"


def _battery_problems(document: Document) -> Iterator[str]:
    """Find what two batteries must not share, also between batteries with other mistakes."""
    batteries = document.data.get("batteries") if isinstance(document.data, Mapping) else None
    if batteries == []:
        yield document.complaint(
            "batteries", "expected at least one battery: bms-exporter scan finds them"
        )
    seen: dict[tuple[str, str], str] = {}
    for index, battery in enumerate(batteries if isinstance(batteries, list) else ()):
        for key in ("name", "address") if isinstance(battery, Mapping) else ():
            value = str(battery.get(key, ""))
            if key == "address":
                value = value.strip().upper().replace("-", ":")
            path = f"batteries[{index}].{key}"
            first = seen.setdefault((key, value), path)
            if value and first != path:
                yield document.complaint(path, f"{value!r} is used by {first} already")


def _poll_problems(document: Document) -> Iterator[str]:
    """Find durations that are well-formed and make no sense."""
    poll = document.data.get("poll") if isinstance(document.data, Mapping) else None
    durations = {_key(f.name): getattr(PollConfig(), f.name) for f in fields(PollConfig)}
    for key, (least, greatest) in RANGES_S.items():
        if not (isinstance(poll, Mapping) and key in poll):
            continue
        try:
            durations[key] = parse_duration(poll[key])
        except ValueError:
            continue  # the converter complains
        if not least <= durations[key] <= greatest:
            yield document.complaint(
                f"poll.{key}", f"expected {least:g}s to {greatest:g}s, got {poll[key]}"
            )
    if 0 < durations["max_age"] < durations["min_interval"]:
        yield document.complaint(
            "poll.max_age",
            f"expected 0 or at least min_interval ({durations['min_interval']:g}s), "
            f"got {durations['max_age']:g}s",
        )


def _with_passwords(config: Config, folder: Path) -> Iterator[BatteryConfig]:
    problems = []
    for index, battery in enumerate(config.batteries):
        try:
            password = _password(battery, folder)
        except ValueError as error:
            problems.append(f"batteries[{index}].{error}")
            continue
        yield replace(battery, password=password)
    if problems:
        raise ConfigError(problems)


def _password(battery: BatteryConfig, folder: Path) -> bytes | None:
    """Return a battery's password, from where it says.

    Raises:
        ValueError: It is not there, or has the wrong length; the text begins with the key.
    """
    if battery.password_file is not None and battery.password_env is not None:
        raise ValueError("password_env: password_file is given too; one of them is enough")
    if battery.password_file is not None:
        where = "password_file"
        try:
            password = read_small(folder / battery.password_file).rstrip(b"\r\n")
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = error.strerror if isinstance(error, OSError) else "no name of a file"
            raise ValueError(f"{where}: {battery.password_file!r}: {reason}") from error
    elif battery.password_env is not None:
        where = "password_env"
        if battery.password_env not in os.environ:
            raise ValueError(f"{where}: the variable {battery.password_env} is not set")
        password = os.environb[battery.password_env.encode()]
    else:
        return None
    if len(password) != PASSWORD_LENGTH:
        raise ValueError(f"{where}: expected {PASSWORD_LENGTH} bytes, got {len(password)}")
    return password


def _line_of(problem: str) -> int:
    match = re.match(r"line (\d+):", problem)
    return int(match[1]) if match else 0
