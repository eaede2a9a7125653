"""A YAML file as plain data that still knows its lines and its duplicate keys."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final

import yaml

from exporter.errors import ConfigError

MAX_DEPTH: Final = 20
MAX_NODES: Final = 10_000  # a battery has about ten; it is half a second's work for PyYAML
# Of all values and their paths, where aliases are followed: ten lines can mean a billion of them,
# and complaints quote them.
MAX_CHARACTERS: Final = 1_000_000
MAX_NUMBER: Final = 20  # characters; Python refuses to print a number of 4301 digits


@dataclass(frozen=True, slots=True)
class Document:
    """The data, and where each part of it stood."""

    data: Any
    lines: dict[str, int]  # "batteries[0].name" -> 4
    problems: tuple[str, ...]

    def complaint(self, path: str, text: str) -> str:
        """Return "line 4: batteries[0].name: text"; a path that is missing stands in its parent."""
        known = path
        while known not in self.lines and known:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        line = self.lines.get(known, 1)
        return f"line {line}: {path}: {text}" if path else f"line {line}: {text}"


def read_yaml(text: str, *, verbatim: Container[str] = ()) -> Document:
    """Read one YAML document.

    Args:
        text: The file.
        verbatim: Keys whose scalars are taken as they are written: to YAML, an unquoted address
            of digits is a number of base 60.

    Raises:
        ConfigError: It is not YAML.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        walker = _Walker(verbatim)
        data = walker.value(node, "", 0) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError([f"line {line}: not YAML: {error.problem or error.context}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"line 1: not YAML: {error}"]) from error
    except (ValueError, OverflowError) as error:  # "\\U00110000", %YAML 1.99999...
        raise ConfigError([f"line 1: not YAML: {error}"]) from error
    return Document(data, walker.lines, tuple(walker.problems))


class _Limits:
    """Gives up before much time or memory is spent."""

    def __init__(self) -> None:
        self._nodes = 0
        self._characters = 0

    def check(self, line: int, depth: int, characters: int = 0) -> None:
        self._nodes += 1
        self._characters += characters
        if depth > MAX_DEPTH:
            raise ConfigError([f"line {line}: nested too deeply"])
        if self._nodes > MAX_NODES:
            raise ConfigError([f"line {line}: more than {MAX_NODES} values"])
        if self._characters > MAX_CHARACTERS:
            raise ConfigError([f"line {line}: more than {MAX_CHARACTERS} characters"])


class _Loader(yaml.SafeLoader):
    """Composes nodes within the limits, out of characters only."""

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
    def __init__(self, verbatim: Container[str]) -> None:
        self._verbatim = verbatim
        self._constructor = yaml.constructor.SafeConstructor()
        self._limits = _Limits()
        self.lines: dict[str, int] = {}
        self.problems: list[str] = []

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        self._limits.check(line, depth, len(path) + len(text))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise ConfigError([f"line {line}: expected a mapping, a list or a value"])

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            place = f"{path}.{key}" if path else key
            line = key_node.start_mark.line + 1
            if key in result:
                first = self.lines[place]
                self.problems.append(f"line {line}: {place}: given twice, first in line {first}")
                continue
            self.lines[place] = line
            result[key] = self.value(value_node, place, depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        if path.rpartition(".")[2] in self._verbatim or len(node.value) > MAX_NUMBER:
            return node.value
        construct = {
            "tag:yaml.org,2002:null": self._constructor.construct_yaml_null,
            "tag:yaml.org,2002:bool": self._constructor.construct_yaml_bool,
            "tag:yaml.org,2002:int": self._constructor.construct_yaml_int,
            "tag:yaml.org,2002:float": self._constructor.construct_yaml_float,
        }.get(node.tag)
        try:
            return construct(node) if construct else node.value
        except (ValueError, KeyError, IndexError, OverflowError):  # !!int x, !!bool x, !!float _
            return node.value
