"""Print docs/configuration.md: types, defaults and ranges from the schema, words from the example."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

from exporter.config.local_time import Night, TimeOfDay, ZoneName
from exporter.config.presentation import Threshold
from exporter.config.schema import (
    MAX_NAME,
    MAX_PORT,
    RANGES_S,
    AdapterName,
    Address,
    BankConfig,
    BatteryConfig,
    Config,
    Host,
    ManagementConfig,
    Name,
    PollConfig,
    Port,
    ProfileName,
    ProxyConfig,
    ProxyName,
    Seconds,
    SettingsChoice,
    TransportChoice,
    Variable,
    Wiring,
    show_duration,
)
from exporter.protocol.profiles import PROFILES

EXAMPLE: Final = Path(__file__).parent.parent / "config.example.yaml"

HEAD: Final = f"""\
# Configuration reference

Made by `make docs` from `exporter/config/schema.py` and from [config.example.yaml](../config.example.yaml), which has
every key with its default. `bms-exporter --config.example` prints it.

The exporter reads `config.yaml` in the current folder, or else `/etc/bms-exporter/config.yaml`. `--config.file` names
another file; `--config.check` checks it and exits. All options of the command are in [commands.md](commands.md).

- Names have 1 to {MAX_NAME} printable characters.
- Durations have a unit: `500ms`, `10s`, `2m`, `1h` or `1m30s`.
- Names of files are relative to the configuration.
- A key without a default is required.

## The file
"""

SECTIONS: Final = (  # class, key in the file, heading, what is said below
    (Config, "", "", ""),
    (
        BatteryConfig,
        "batteries",
        "Each of `batteries`",
        (
            "\nIf a request upsets your battery, leave it out with `cells: false`, `hardware: false` or "
            "`counters: false`.\n"
        ),
    ),
    (BankConfig, "banks", "Each of `banks`", "\n[banks.md](banks.md) explains banks.\n"),
    (ProxyConfig, "proxies", "Each of `proxies`", "\n[proxies.md](proxies.md) explains proxies.\n"),
    (
        ManagementConfig,
        "management",
        "`management`",
        "\nAll of them need `CAP_NET_ADMIN`: [permissions.md](permissions.md).\n",
    ),
    (PollConfig, "poll", "`poll`", ""),
)
TABLE: Final = "\n| key | value | default | meaning |\n|---|---|---|---|\n"
BELOW: Final = {
    key: f"see [below](#{heading.replace('`', '').replace(' ', '-').lower()}); default: "
    f"{'as there' if kind in (ManagementConfig, PollConfig) else ''}"
    for kind, key, heading, _ in SECTIONS
}
VALUES: Final = {
    Seconds: "duration",
    Address: "Bluetooth address",
    Name: "text",
    AdapterName: "`hci0`, or its address",
    ProfileName: ", ".join(f"`{name}`" for name in PROFILES),
    TransportChoice: ", ".join(f"`{name}`" for name in TransportChoice),
    SettingsChoice: ", ".join(f"`{name}`" for name in SettingsChoice),
    Wiring: ", ".join(f"`{name}`" for name in Wiring),
    Threshold: "`0%` to `100%`, or Ah like `60Ah`",
    ProxyName: "text",
    Host: "address or host name",
    Port: f"1 to {MAX_PORT}",
    Variable: "name of a variable",
    ZoneName: "IANA name",
    TimeOfDay: "time of day",
    Night: "two times of day",
    str: "name of a file",
    bool: "`true`, `false`",
}


def text() -> str:
    """Return the document."""
    parts = [HEAD]
    for kind, section, heading, below in SECTIONS:
        parts += [f"\n### {heading}\n" if heading else "", TABLE]
        comments = dict(_comments(section))
        hints = get_type_hints(kind)
        for one in fields(kind):
            if one.repr:  # else: what a file or a variable holds that another key names
                key = one.name.removesuffix("_s")
                meaning, _, default = comments.get(key, BELOW.get(key, "")).partition("; default: ")
                if not default and one.default is not MISSING:
                    default = _shown(one.default, hints[one.name])
                meaning = re.sub(r"docs/(\w+\.md)", r"[\1](\1)", meaning)
                parts.append(
                    f"| `{key}` | {_value(key, hints[one.name])} | {default} | {meaning} |\n"
                )
        parts.append(below)
    return "".join(parts)


def _comments(section: str) -> Iterator[tuple[str, str]]:
    """Yield key and comment of each key that the example has in a section; "": at the top."""
    inside = ""
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if not line or line.endswith(":"):
            inside = line.removesuffix(":")
        match = re.fullmatch(r"([# ]*)(?:- )?(\w+): .*?  +# (.*)", line)
        if match and inside == section and (section or match[1] in ("", "# ")):
            yield match[2], match[3]


def _value(key: str, hint: Any) -> str:
    kinds = [hint, *get_args(hint)]
    known = [VALUES[kind] for kind in kinds if kind in VALUES]
    if get_origin(hint) is tuple:
        return "list" if is_dataclass(get_args(hint)[0]) else "list of names"
    if len(known) > 1:  # of Link
        return f"{known[0]}, or a proxy"
    if key in RANGES_S:
        least, greatest = (_written(limit, Seconds) for limit in RANGES_S[key])
        return f"duration, {least} to {greatest}"
    return known[0] if known else "section"


def _shown(default: Any, hint: Any) -> str:
    """Return a default as it stands in the file; an empty one is "none"."""
    if default == ():
        return "none"
    return f"`{_written(default, hint)}`"


def _written(value: Any, hint: Any) -> str:
    if hint is TimeOfDay:
        return f"{value // 3600:02.0f}:{value % 3600 // 60:02.0f}"
    if hint is Night:
        return "-".join(_written(time, TimeOfDay) for time in value)
    if hint is Seconds:
        return show_duration(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(text(), end="")
