"""Reads a configuration file strictly and reports every mistake in it at once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from cattrs import Converter
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, override

from exporter.config.banks import bank_complaints
from exporter.config.files import missing_config, read_config, read_secret
from exporter.config.presentation import threshold_complaints
from exporter.config.proxies import proxy_complaints, read_keys
from exporter.config.schema import (
    PARSERS,
    PASSWORD_LENGTH,
    RANGES_S,
    BankConfig,
    BatteryConfig,
    Config,
    Name,
    PollConfig,
    ProxyConfig,
    is_address,
    key_of,
    likely_address,
    parse_duration,
    show_duration,
)
from exporter.config.sensors import sensor_complaints
from exporter.config.yaml_document import Complaint, Document, read_yaml, shown

VERBATIM: Final = {"address", "morning", "night"}  # to YAML, 10:00 is a number
TEXTS: Final = {"name", "batteries", "temperatures", "link", "host"}  # `name: on` is no boolean
NO_BATTERY: Final = (
    "expected at least one battery: bms-exporter scan finds them and prints this part of the file"
)


def load(path: Path) -> Config:
    """Read a configuration file and the files with secrets that it names.

    Raises:
        ConfigError: The file cannot be read, or holds at least one mistake.
    """
    document = _read(read_config(path, describe_missing=missing_config), str(path))
    return _with_secrets(_structured(document), document, path.parent)


def parse(text: str, name: str = "config.yaml") -> Config:
    """Return the configuration in a text, without passwords; messages contain `name`.

    Raises:
        ConfigError: The text has mistakes; the error lists all of them.
    """
    return _structured(_read(text, name))


def _read(text: str, name: str) -> Document:
    return read_yaml(text, name, verbatim=VERBATIM, texts=TEXTS)


def _structured(document: Document) -> Config:
    if not isinstance(document.data, dict):
        from exporter.config.cures import expected_keys  # noqa: PLC0415 - only a mistake needs it

        complaint = document.complaint("", expected_keys("", document.data))
        raise document.error([*document.duplicates, complaint])
    if document.data.get("batteries", ()) is None:
        document.data["batteries"] = []
    for section in ("poll", "management", "banks", "proxies"):
        if document.data.get(section, {}) is None:
            del document.data[section]  # every line of it is commented out
    complaints = [
        *document.duplicates,
        *_short_battery_complaints(document),
        *_battery_complaints(document),
        *bank_complaints(document),
        *_poll_complaints(document),
        *sensor_complaints(document),
        *proxy_complaints(document),
    ]
    comparisons = [*threshold_complaints(document)]
    try:
        config = make_converter().structure(document.data, Config)
    except BaseValidationError as error:
        from exporter.config.cures import (  # noqa: PLC0415 - as above
            has_unknown_key,
            structure_complaints,
        )

        complaints += structure_complaints(error, document)
        if has_unknown_key(error):
            comparisons = []  # the other value may be under that key
        raise document.error([*complaints, *comparisons]) from error
    if complaints or comparisons:
        raise document.error([*complaints, *comparisons])
    return config


def make_converter() -> Converter:
    """Return a strict converter; cattrs' own hooks would make a number of "7"."""
    converter = Converter(forbid_extra_keys=True)
    for kind, parser in PARSERS.items():
        converter.register_structure_hook(kind, partial(_parsed, parser))
    _expect_list(converter, tuple[Name, ...], "names")
    _expect_list(converter, tuple[Name | None, ...], "names")
    overrides: dict[type, dict[str, Any]] = {
        PollConfig: {f.name: override(rename=key_of(f.name)) for f in fields(PollConfig)},
        BatteryConfig: {"password": override(omit=True)},
        ProxyConfig: {"key": override(omit=True)},
    }
    for kind, by_field in overrides.items():
        converter.register_structure_hook(kind, make_dict_structure_fn(kind, converter, **by_field))
    _expect_list(converter, tuple[BatteryConfig, ...], "batteries")
    _expect_list(converter, tuple[BankConfig, ...], "banks")
    _expect_list(converter, tuple[ProxyConfig, ...], "proxies")
    return converter


def _expect_list(converter: Converter, wanted: Any, what: str) -> None:
    """Refuse anything but a list: cattrs would take any iterable."""
    structure = converter.get_structure_hook(wanted)

    def structure_list(value: object, kind: Any) -> Any:
        if not isinstance(value, list):
            cure = "like [one, two]" if what == "names" else "each with a dash before its name"
            raise ValueError(f"expected a list of {what}, {cure}, got {shown(value)}")  # noqa: TRY004
        return structure(value, kind)

    converter.register_structure_hook_func(lambda kind: kind == wanted, structure_list)


def _parsed(parser: Callable[[object], object], value: object, _kind: object) -> object:
    return parser(value)


def _short_battery_complaints(document: Document) -> Iterator[Complaint]:
    """Find batteries that are written as NAME: ADDRESS or ADDRESS, and write them in full."""
    batteries = document.data.get("batteries")
    for index, battery in enumerate(batteries if isinstance(batteries, list) else ()):
        pairs = [*battery.items()] if isinstance(battery, dict) else [("camper", battery)]
        name, written = pairs[0] if len(pairs) == 1 else ("name", None)
        address = likely_address(written) if isinstance(written, str) else None
        if address is not None and name not in {"name", "address"}:
            unique = name if isinstance(battery, dict) else f"{name} {index}"
            batteries[index] = {"name": unique, "address": address}
            text = f"expected two lines, name: {name} and below it address: {address}"
            yield document.complaint(f"batteries[{index}]", text)


def _battery_complaints(document: Document) -> Iterator[Complaint]:
    """Find names and addresses that two batteries share, even if they have other mistakes."""
    batteries = document.data.get("batteries")
    if batteries == []:
        yield document.complaint("batteries", NO_BATTERY)
    seen: dict[tuple[str, str], str] = {}
    for index, battery in enumerate(batteries if isinstance(batteries, list) else ()):
        for key in ("name", "address") if isinstance(battery, Mapping) else ():
            value = str(battery.get(key, ""))
            if key == "address":
                value = value.strip().upper().replace("-", ":") if is_address(value) else ""
            path = f"batteries[{index}].{key}"
            first = seen.setdefault((key, value), path)
            if value and first != path:
                text = document.describe_taken(value, first, "give each battery its own")
                yield document.complaint(path, text)


def _poll_complaints(document: Document) -> Iterator[Complaint]:
    """Find durations that are well-formed but out of range or contradict each other."""
    poll = document.data.get("poll")
    durations = {key_of(f.name): getattr(PollConfig(), f.name) for f in fields(PollConfig)}
    wrong = set()
    for key, (least, greatest) in RANGES_S.items() if isinstance(poll, Mapping) else ():
        if key not in poll:
            continue
        try:
            durations[key] = parse_duration(poll[key])
        except ValueError:
            wrong.add(key)  # the converter complains
            continue
        if not least <= durations[key] <= greatest:
            wrong.add(key)
            range_ = f"{show_duration(least)} to {show_duration(greatest)}"
            yield document.complaint(f"poll.{key}", f"expected {range_}, got {poll[key]}")
    if not wrong and isinstance(poll, Mapping) and poll.keys() <= durations.keys():
        yield from _order_complaints(document, poll, durations)


def _order_complaints(
    document: Document, poll: Mapping[str, Any], durations: Mapping[str, float]
) -> Iterator[Complaint]:
    least_s, most_s = durations["min_interval"], durations["max_age"]
    if not 0 < most_s < least_s:
        return
    least, most = show_duration(least_s), show_duration(most_s)
    if "max_age" in poll:
        text = f"expected 0 or at least min_interval ({least}), got {most}"
        yield document.complaint("poll.max_age", text)
    else:
        text = f"expected at most max_age ({most}, the default), got {least}"
        yield document.complaint("poll.min_interval", f"{text}: set max_age, too")


def _with_secrets(config: Config, document: Document, folder: Path) -> Config:
    batteries: list[BatteryConfig] = []
    complaints: list[Complaint] = []
    for index, battery in enumerate(config.batteries):
        try:
            batteries.append(replace(battery, password=_password(battery, folder)))
        except ValueError as error:
            key = "password_file" if battery.password_env is None else "password_env"
            complaints.append(document.complaint(f"batteries[{index}].{key}", str(error)))
    proxies = read_keys(config.proxies, document, folder, complaints)
    if complaints:
        raise document.error(complaints)
    return replace(config, batteries=tuple(batteries), proxies=proxies)


def _password(battery: BatteryConfig, folder: Path) -> bytes | None:
    """Return a battery's password from its file or its environment variable.

    Raises:
        ValueError: It is not there, has the wrong length, or is given twice.
    """
    password = read_secret(
        folder, file=battery.password_file, variable=battery.password_env, option="password_file"
    )
    if password is not None and len(password) != PASSWORD_LENGTH:
        got = f"got {len(password)}" if password.isascii() else "got some that are not ASCII"
        raise ValueError(f"expected the {PASSWORD_LENGTH} characters of the app password, {got}")
    return password
