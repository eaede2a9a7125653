"""What to do about a file of another shape, and keys that are missing or unknown.

Imported after a mistake only.
"""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final

from cattrs import transform_error
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError

from exporter.config.schema import (
    LIKE,
    BankConfig,
    BatteryConfig,
    Config,
    ManagementConfig,
    PollConfig,
    ProxyConfig,
    key_of,
)
from exporter.config.yaml_document import (
    HIDDEN,
    Complaint,
    Document,
    hide_secret,
    shown,
    unknown_key,
)

EMPTY: Final = (
    "no battery is configured yet: bms-exporter scan finds batteries and prints a configuration, "
    "bms-exporter --config.example prints every option"
)
EXAMPLES: Final = {  # lines of a part of the file
    "poll": "timeout: 30s",
    "management": "release: true",
    "batteries": "name: camper",
    "banks": "name: both",
    "proxies": "name: garage",
}

MISSING: Final = {
    "address": f"add a line like address: {LIKE}; bms-exporter scan shows it",
    "batteries": "bms-exporter scan finds batteries and prints this part of the file",
    "host": "add a line like host: 192.168.1.40",
    "name": "add a line like name: camper",
    "wiring": "add wiring: parallel, or wiring: series",
}
MISSING_KEY: Final = "\0missing"  # is replaced
GLUED: Final = re.compile(r"[a-z_]{4,}:(?=\S)")  # a key with its value: to YAML one text
MEANT: Final = re.compile(r"did you mean (\w+)\?$")
CUT: Final = "the dash begins another battery: put a blank in its place"
NO_KEYS: Final = "\0no keys"
IN_BANK: Final = "add the names of its batteries, like batteries: [left, right]"
LISTEN: Final = "the address to serve on is an option of the command: --web.listen-address"
WEB: Final = "it belongs in a file of its own, which --web.config.file names"
LOG: Final = "it is an option of the command: --log.level"
OWN_FILE: Final = "write it into a file of its own, and the name of that file"
OFTEN: Final = "Prometheus decides how often; poll.min_interval is the least time between polls"
# Keys of other programs, and what people expect to find.
ELSEWHERE: Final = {
    "basic_auth_users": WEB,
    "bank": "it belongs under banks:, which lists the names of the batteries of each bank",
    "basic_auth": WEB,
    "debug": LOG,
    "encryption": f"{OWN_FILE} as key_file",
    "encryption_key": f"{OWN_FILE} as key_file",
    "interval": OFTEN,
    "key": f"{OWN_FILE} as key_file",
    "listen": LISTEN,
    "listen_address": LISTEN,
    "log": LOG,
    "log_level": LOG,
    "mac": "did you mean address?",
    "name": "write - name: with a dash, below the line batteries:",
    "password": f"{OWN_FILE} as password_file",
    "pin": f"{OWN_FILE} as password_file",
    "poll_interval": OFTEN,
    "port": LISTEN,
    "rate_limit": WEB,
    "scrape_interval": OFTEN,
    "tls": WEB,
    "tls_server_config": WEB,
    "username": WEB,
    "users": WEB,
    "web": LISTEN,
}
HOSTS: Final = ("address", "hostname", "ip")  # what people call the host of a proxy
LIKE_PASSWORD: Final = re.compile(r"pass(word|wort|wd|phrase|code)|pwd|secret|kennwort")
INVISIBLE: Final = re.compile(r"[^!-~]")  # also the no-break spaces of web pages
PARTS: Final = {  # of the file, and how to get there
    BatteryConfig: "it belongs to a battery: indent it as the name of the battery",
    PollConfig: "it belongs under poll: indent it there",
    ManagementConfig: "it belongs under management: indent it there",
    Config: "it belongs to the whole file: begin its line without blanks",
    ProxyConfig: "it belongs to a proxy: indent it as the name of the proxy",
    BankConfig: "it belongs to a bank: indent it as the name of the bank",
}


def structure_complaints(error: Exception, document: Document) -> Iterator[Complaint]:
    """Translate cattrs' tree of errors into complaints."""
    found = [*_found(error, document)]
    near = [(path, MEANT.search(text)) for path, text in found]
    meant = {f"{_parent(path)}{match[1]}" for path, match in near if match}
    misplaced = {
        INVISIBLE.sub("", path) for path, text in found if "." not in path and text != MISSING_KEY
    }
    absent = {path for path, text in found if text == MISSING_KEY}
    for index in range(1, len(document.mappings("batteries"))):
        halves = {f"batteries[{index - 1}].address", f"batteries[{index}].name"}
        if halves <= absent:
            meant |= halves
            yield document.complaint(f"batteries[{index}]", CUT)
    for path, text in found:
        if text != MISSING_KEY:
            yield document.complaint(path, text)
        elif path not in meant and path.rpartition(".")[2] not in misplaced:
            yield document.complaint(path, missing(path))


def has_unknown_key(error: BaseValidationError) -> bool:
    """Return whether cattrs' tree of errors has an unknown key."""
    return error.subgroup(ForbiddenExtraKeysError) is not None


def _found(error: Exception, document: Document) -> Iterator[tuple[str, str]]:
    """Yield path and text of each mistake; the text may be MISSING_KEY."""
    for line in transform_error(error, format_exception=_message):
        text, _, place = line.rpartition(" @ ")
        path = key_of(place.removeprefix("$").removeprefix("."))
        if text == NO_KEYS:
            text = expected_keys(path, _value(document.data, path))
        for part in text.split("\n"):
            key, tab, complaint = part.rpartition("\t")
            yield (f"{path}.{key}".removeprefix(".") if tab else path), complaint


def _message(error: BaseException, kind: Any) -> str:
    if isinstance(error, ForbiddenExtraKeysError):
        return "\n".join(f"{key}\t{unknown(key, error.cl)}" for key in error.extra_fields)
    if isinstance(error, KeyError):
        return MISSING_KEY
    if isinstance(error, TypeError | AttributeError) and is_dataclass(kind):
        return NO_KEYS
    return str(error)


def _parent(path: str) -> str:
    return path[: path.rfind(".") + 1]


def expected_keys(path: str, value: object) -> str:
    """Return the complaint about a part of the file that should have lines with keys."""
    if not path:
        return (
            EMPTY if value is None else "expected the line batteries: above the list of batteries"
        )
    part, bracket, _ = path.partition("[")
    below = "" if bracket else " below it"
    if isinstance(value, str) and (glued := GLUED.match(value)):
        return f"a blank is missing after {glued[0]}"
    return f"expected lines like {EXAMPLES[part]}{below}, got {shown(value)}"


def _value(data: Any, path: str) -> object:
    for part in re.findall(r"\w+", path):
        data = data[int(part) if part.isdigit() else part]
    return data


def missing(path: str) -> str:
    """Return the complaint about a key that is required, by its path."""
    key = path.rpartition(".")[2]
    return f"missing: {IN_BANK if key == 'batteries' != path else MISSING[key]}"


def unknown(key: str, part: type) -> str:
    """Return the complaint about an unknown key in one part of the file."""
    key = hide_secret(key).removesuffix(HIDDEN)
    if key == "<<":
        return "merge keys are not supported: write the keys out"
    if (visible := INVISIBLE.sub("", key)) != key and any(visible in keys_of(one) for one in PARTS):
        return f"special characters beside {visible}: delete them, and indent with blanks"
    if part is ProxyConfig and key in HOSTS:
        return "unknown key, did you mean host?"
    known = LIKE_PASSWORD.sub("password", key.lower())
    if known in ELSEWHERE:
        return f"unknown key: {ELSEWHERE[known]}"
    for other, cure in PARTS.items():
        if other is not part and key in keys_of(other):
            return f"unknown key here: {cure}"
    return unknown_key(key, keys_of(part), "bms-exporter --config.example prints every key")


def keys_of(part: Any) -> list[str]:
    """Return the keys of one part of the file; secrets have none."""
    return [key_of(field.name) for field in fields(part) if field.repr]
