"""Reads a YAML file as plain data, with its lines and its duplicate keys."""

import re
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from exporter.errors import ConfigError

MAX_DEPTH: Final = 20
MAX_NODES: Final = 10_000  # a battery has about ten; PyYAML needs half a second for them
# Of all values and their paths, counted where aliases are used: ten lines of aliases can stand for
# a billion characters, and complaints quote them.
MAX_CHARACTERS: Final = 1_000_000
MAX_NUMBER: Final = 20  # characters; Python refuses to print a number of 4301 digits

TAGS: Final = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
KINDS: Final = {"bool": "true or false", "int": "a number", "float": "a number"}  # by tag
INDEX: Final = re.compile(r"\[\d+\]$")
# What follows the key of a secret without a colon and a blank, as in `password 123456:`.
SECRET: Final = re.compile(
    r"(?:^|(?<=\.))((?:password|pin|key)(?:_?file|_?env)?(?=[^\w-]|\d)"
    r"|basic_auth_users(?:\.[^\s:=]+)?(?=[\s:=])).+",
    re.DOTALL | re.IGNORECASE,
)
HIDDEN: Final = " (hidden)"

Complaint = tuple[int, str]
"""A line number, from 1, and the mistake in that line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The data of a file, and the line of each part."""

    name: str  # of the file, for messages
    data: Any
    lines: dict[str, int]  # "batteries[0].name" -> 4
    duplicates: tuple[Complaint, ...]

    def complaint(self, path: str, text: str) -> Complaint:
        """Return a complaint about `path`; if it is missing, with the line of its parent."""
        known = path
        while known not in self.lines and known:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        return self.lines.get(known, 1), f"{hide_secret(path)}: {text}" if path else text

    def describe_taken(self, value: str, path: str, cure: str) -> str:
        """Return the text of a complaint about a value that `path` has already."""
        line, _ = self.complaint(path, "")
        return f"{value!r} is used in line {line} already: {cure}"

    def mappings(self, key: str) -> list[Mapping[str, Any]]:
        """Return the entries of a list; one that is no mapping is empty: others complain."""
        entries = self.data.get(key)
        entries = entries if isinstance(entries, list) else []
        return [entry if isinstance(entry, Mapping) else {} for entry in entries]

    def error(self, complaints: Iterable[Complaint]) -> ConfigError:
        """Return an error with the complaints as "FILE:LINE: text", in order and each once."""
        ordered = sorted(dict.fromkeys(complaints), key=lambda complaint: complaint[0])
        return ConfigError([f"{self.name}:{line}: {_printable(text)}" for line, text in ordered])


@dataclass(frozen=True, slots=True)
class Misread:
    """A value that should be text, and that YAML reads as something else."""

    text: str  # as written
    kind: str

    def __str__(self) -> str:
        """Return it as written."""
        return self.text


def read_yaml(
    text: str, name: str, *, verbatim: Container[str] = (), texts: Container[str] = ()
) -> Document:
    """Read one YAML document; `name` is that of the file, for messages.

    The values of `verbatim` keys are kept as written: to YAML, an unquoted address of digits is a
    number of base 60. Those of `texts`, and of lists under them, are text or `Misread`.

    Raises:
        ConfigError: It is not YAML, or too large.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        walker = _Walker(verbatim, texts)
        data = walker.value(node, "", 0) if node else None
    except _TooLargeError as error:
        line, reason = error.args
        raise ConfigError([f"{name}:{line}: {reason}"]) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # "\\U00110000", %YAML 1.99999...
        from exporter.config.yaml_errors import explain  # noqa: PLC0415 - only a mistake needs it

        line, reason = explain(error, text)
        raise ConfigError([f"{name}:{line}: {reason}"]) from error
    return Document(name=name, data=data, lines=walker.lines, duplicates=tuple(walker.duplicates))


def hide_secret(text: str) -> str:
    """Return a text or path for a message, without what follows the key of a secret."""
    return SECRET.sub(rf"\1{HIDDEN}", text)


def shown(value: object) -> str:
    """Return a value for a message: text in quotes, and only the kind of a list or mapping."""
    match value:
        case None | "":
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "keys with values"
        case Misread():
            return value.text
    return repr(hide_secret(value) if isinstance(value, str) else value)


def unknown_key(key: str, known: Collection[str], otherwise: str | None = None) -> str:
    """Return the complaint about an unknown key, with the known one that is most like it.

    Without such a key, `otherwise` says what to do; None: it lists the known ones.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - 130 kB that only a mistake needs

    key = hide_secret(key).removesuffix(HIDDEN)
    if key in known:
        return f"a colon and a blank are missing after {key}"
    near = get_close_matches(key, known, n=1)
    if near:
        return f"unknown key, did you mean {near[0]}?"
    return f"unknown key: {otherwise or 'expected one of ' + ', '.join(known)}"


def _printable(text: str) -> str:
    """Escape what a terminal would obey or hide: a key may hold line ends and control codes."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class _TooLargeError(Exception):
    """A document exceeds a limit; its arguments are a line number and the reason."""


class _Limits:
    """Ends reading before it takes much time or memory."""

    def __init__(self) -> None:
        self._nodes = 0
        self._characters = 0

    def check(self, line: int, depth: int, characters: int = 0) -> None:
        self._nodes += 1
        self._characters += characters
        if depth > MAX_DEPTH:
            raise _TooLargeError(line, "nested too deeply")
        if self._nodes > MAX_NODES:
            raise _TooLargeError(line, f"more than {MAX_NODES} values")
        if self._characters > MAX_CHARACTERS:
            raise _TooLargeError(line, f"more than {MAX_CHARACTERS} characters")


class _Loader(yaml.SafeLoader):
    """Composes nodes within the limits, and refuses half characters."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._limits = _Limits()
        self._depth = -1

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._limits.check(self.line + 1, self._depth)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        try:
            node.value.encode()
        except UnicodeEncodeError as error:
            raise yaml.composer.ComposerError(
                None, None, "half a character, \\ud800 to \\udfff", node.start_mark
            ) from error
        return node


class _Walker:
    """Turns nodes into plain data and collects lines and duplicate keys."""

    def __init__(self, verbatim: Container[str], texts: Container[str]) -> None:
        self._verbatim = verbatim
        self._texts = texts
        self._constructor = yaml.constructor.SafeConstructor()
        self._limits = _Limits()
        self._open: set[int] = set()  # nodes whose values are being read, by id
        self.lines: dict[str, int] = {}
        self.duplicates: list[Complaint] = []

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        self._limits.check(line, depth, len(path) + len(text))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise _TooLargeError(line, "an alias (*) in the part that it stands for: remove it")
        self._open.add(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, path, depth)
        else:
            value = [
                self.value(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        self._open.remove(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            place = f"{path}.{key}" if path else key
            line = key_node.start_mark.line + 1
            if key in result:
                first = self.lines[place]
                cure = "remove one, or begin the next entry with a dash" if path else "remove one"
                text = f"{hide_secret(place)}: given twice, first in line {first}: {cure}"
                self.duplicates.append((line, text))
                continue
            self.lines[place] = line
            result[key] = self.value(value_node, place, depth + 1)
        return result

    def _scalar(self, node: Any, path: str) -> Any:
        key = INDEX.sub("", path.rpartition(".")[2])
        if key in self._verbatim or len(node.value) > MAX_NUMBER:
            return node.value
        try:
            value = self._constructor.construct_object(node) if node.tag in TAGS else node.value
        except (ValueError, KeyError, IndexError, OverflowError):  # !!int x, !!bool x, !!float _
            return node.value
        if key in self._texts and isinstance(value, bool | int | float):
            return Misread(node.value, KINDS[node.tag.rpartition(":")[2]])
        return value
