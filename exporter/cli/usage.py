"""Explains a wrong command line in one sentence, with the cure; imported after a mistake only."""

import argparse
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final

from exporter.cli.parser import arguments_of, commands_of
from exporter.config.schema import ADDRESS

# What other programs call it -> what this one does.
OTHER_OPTIONS: Final = {
    "-V": "--version",
    "-c": "--config.file",
    "-d": "--log.level debug",
    "-f": "--config.file",
    "-p": "--web.listen-address",
    "-q": "--log.level error",
    "-v": "--log.level debug",
    "--debug": "--log.level debug",
    "--host": "--web.listen-address",
    "--json": "--format json",
    "--listen": "--web.listen-address",
    "--output": "--format",
    "--port": "--web.listen-address",
    "--quiet": "--log.level error",
    "--web.port": "--web.listen-address",
    "--verbose": "--log.level debug",
}
OTHER_COMMANDS: Final = {
    "check": "bms-exporter --config.check",
    "config": "bms-exporter --config.example",
    "discover": "bms-exporter scan",
    "get": "bms-exporter read",
    "list": "bms-exporter scan",
    "run": "bms-exporter without a command",
    "serve": "bms-exporter without a command",
    "start": "bms-exporter without a command",
    "status": "bms-exporter doctor",
    "test": "bms-exporter doctor",
    "validate": "bms-exporter --config.check",
    "version": "bms-exporter --version",
}
DASH: Final = re.compile("[\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}]-?")  # of a word processor
NUMBER: Final = re.compile(r"-\d+(\.\d*)?|-\.\d+")


def explain(root: argparse.ArgumentParser, words: Sequence[str], message: str) -> str:
    """Return what is wrong with these words; `message` is what argparse says about them."""
    parser = root
    remaining = iter(words)
    for word in remaining:
        if word == "--" and not commands_of(parser):
            break
        if _is_option(word):
            if problem := _option_problem(root, parser, word, remaining):
                return _sentence(parser, problem)
        elif commands := commands_of(parser):
            if word not in commands:
                return _sentence(parser, _unknown_command(word, [*commands]))
            parser = commands[word]
    return _sentence(parser, _translated(parser, message))


def _sentence(parser: argparse.ArgumentParser, problem: str) -> str:
    end = "" if problem.endswith(("?", ".")) else "."
    return f"{parser.prog}: {problem}{end} See {parser.prog} --help"


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not NUMBER.fullmatch(word)


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {name: one for one in arguments_of(parser) for name in one.option_strings}


def _option_problem(
    root: argparse.ArgumentParser,
    parser: argparse.ArgumentParser,
    word: str,
    remaining: Iterator[str],
) -> str | None:
    """Return what is wrong with an option; take its value from the remaining words."""
    name, equals, _ = word.partition("=")
    option = _options(parser).get(name)
    if option is None:
        return f"unknown option {_shown(name)}{_option_meant(root, parser, name)}"
    if option.nargs == 0:
        return f"{name} takes no value" if equals else None
    if not equals:
        value = next(remaining, None)
        if value is None or _is_option(value):
            return f"{name} needs a value: {name} {metavar_of(option)}"
    return None


def _option_meant(root: argparse.ArgumentParser, parser: argparse.ArgumentParser, name: str) -> str:
    known = _options(parser)
    meant = OTHER_OPTIONS.get(name)
    if meant and meant.partition(" ")[0] in known:
        return f": did you mean {meant}?"
    own = [one for one, command in commands_of(root).items() if name in _options(command)]
    if parser is root and own:
        return f": it is an option of {_listed(own)} and stands after the command"
    if near := get_close_matches(name, known, n=1):
        return f": did you mean {near[0]}?"
    if parser is not root and name in _options(root):
        return ": it is an option of bms-exporter without a command"
    if own:
        return f": it is an option of {_listed(own)}"
    return ""


def _unknown_command(word: str, commands: Sequence[str]) -> str:
    if word in OTHER_COMMANDS:
        return f"unknown command {word}: did you mean {OTHER_COMMANDS[word]}?"
    if word.endswith((".yaml", ".yml")):
        return f"unknown command {_shown(word)}: did you mean --config.file {_shown(word)}?"
    if DASH.match(word):
        return f"unknown command {_shown(word)}: did you mean {DASH.sub('--', word)}?"
    if ADDRESS.fullmatch(word.upper().replace("-", ":")):
        return f"unknown command {word}: did you mean bms-exporter read {word}?"
    if near := get_close_matches(word, commands, n=1):
        return f"unknown command {_shown(word)}: did you mean {near[0]}?"
    return f"unknown command {_shown(word)}: expected one of {', '.join(commands)}"


def _translated(parser: argparse.ArgumentParser, message: str) -> str:
    """Return argparse's message in plain words."""
    message = message.removeprefix("argument ")
    if surplus := _after(message, "unrecognized arguments: "):
        names = [metavar_of(one) for one in arguments_of(parser) if not one.option_strings]
        return f"{_shown(surplus)} is too much: " + (
            f"expected one {names[0]}" if names else "expected options only"
        )
    if missing := _after(message, "the following arguments are required: "):
        return f"expected {missing}"
    return message.replace("not allowed with argument", "cannot be used together with")


def _after(text: str, start: str) -> str:
    return text.removeprefix(start) if text.startswith(start) else ""


def metavar_of(option: argparse.Action) -> str:
    """Return what stands for the value of an option or argument in the help."""
    if isinstance(option.metavar, str):
        return option.metavar
    return "|".join(map(str, option.choices)) if option.choices else option.dest.upper()


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shown(word: str) -> str:
    return word if word.isprintable() and word else repr(word)
