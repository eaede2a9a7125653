"""Write shell completion and the man page into a folder like deploy, from the parser."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from exporter.cli.arguments import build_parser
from exporter.cli.parser import arguments_of, commands_of
from exporter.cli.usage import metavar_of
from man_page import man

NOTE = "Made by `make docs` from exporter/cli."
BASH = """\
# Completion of bms-exporter for bash. {note}

_bms_exporter() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command= word
    # bash splits --option=value into three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD - 1}}"; do
        case $word in
            {commands})
                command=$word
                break
                ;;
        esac
    done
    COMPREPLY=()
    case $command:$prev in
{values}
    esac
    case $command:$cur in
{words}
    esac
}}
complete -F _bms_exporter bms-exporter
"""
ZSH = """\
#compdef bms-exporter
# Completion of bms-exporter for zsh. {note}

_bms_exporter() {{
    local state
    local -a commands
    commands=(
{commands}
    )
    _arguments -C \\
{options}
        '1:command:->command' '*::argument:->argument'
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}
_bms_exporter "$@"
"""


@dataclass(frozen=True, slots=True)
class Word:
    """An option, or an argument without a name."""

    names: tuple[str, ...]  # (): an argument
    value: str | None  # what stands for its value; None: it takes none
    choices: tuple[str, ...]
    help: str

    @property
    def is_file(self) -> bool:
        """Whether a file name completes it."""
        return self.value is not None and "FILE" in self.value


def words_of(parser: argparse.ArgumentParser) -> list[Word]:
    """Return the options and arguments of a command."""
    return [
        Word(
            names=tuple(one.option_strings),
            value=None if one.nargs == 0 else metavar_of(one),
            choices=tuple(map(str, one.choices or ())),
            help=one.help or "",
        )
        for one in arguments_of(parser)
    ]


def all_commands(root: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {"": root, **commands_of(root)}


def bash(root: argparse.ArgumentParser) -> str:
    values, words = [], []
    for command, parser in all_commands(root).items():
        own = words_of(parser)
        for word in own:
            if word.names and word.value is not None:
                pattern = " | ".join(f"{command}:{name}" for name in word.names)
                values.append(f"        {pattern}) {_bash_value(word)}return ;;")
        names = " ".join(name for word in own for name in word.names)
        words.append(f'        {command}:-*) COMPREPLY=($(compgen -W "{names}" -- "$cur")) ;;')
        choices = [*commands_of(parser)]
        arguments = [word for word in own if not word.names]
        choices += [choice for word in arguments for choice in word.choices]
        if choices:
            listed = " ".join(choices)
            words.append(f'        {command}:*) COMPREPLY=($(compgen -W "{listed}" -- "$cur")) ;;')
        elif any(word.is_file for word in arguments):
            words.append(f"        {command}:*) {_bash_value(arguments[0])};;")
    return BASH.format(
        note=NOTE,
        commands=" | ".join(commands_of(root)),
        values="\n".join(values),
        words="\n".join(words),
    )


def _bash_value(word: Word) -> str:
    if word.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(word.choices)}" -- "$cur")); '
    if word.is_file:
        return 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")); '
    return ""


def zsh(root: argparse.ArgumentParser) -> str:
    commands = commands_of(root)
    cases = []
    for name, parser in commands.items():
        cases.append(f"                {name})")
        cases.append("                    _arguments \\")
        cases.append(" \\\n".join(" " * 24 + one for one in _zsh_words(parser)))
        cases.append("                    ;;")
    return ZSH.format(
        note=NOTE,
        commands="\n".join(f"        {_quoted(f'{n}:{help_of(root, n)}')}" for n in commands),
        options="\n".join(f"        {one} \\" for one in _zsh_words(root)),
        cases="\n".join(cases),
    )


def _zsh_words(parser: argparse.ArgumentParser) -> list[str]:
    lines = []
    for word in words_of(parser):
        action = f"({' '.join(word.choices)})" if word.choices else "_files" * word.is_file
        value = "" if word.value is None else f":{word.value}:{action}"
        text = word.help.replace("[", "(").replace("]", ")").replace(":", r"\:")
        lines += [
            _quoted(f"*{name}{'=' * bool(value and name.startswith('--'))}[{text}]{value}")
            for name in word.names
        ]
        if not word.names:
            lines.append(_quoted(f"*{value}"))
    return lines


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(root: argparse.ArgumentParser) -> str:
    lines = [f"# Completion of bms-exporter for fish. {NOTE}", "", "complete -c bms-exporter -f"]
    for command, parser in all_commands(root).items():
        where = f"__fish_seen_subcommand_from {command}" if command else "__fish_use_subcommand"
        start = f"complete -c bms-exporter -n {_quoted(where)}"
        lines += [
            f"{start} -a {name} -d {_fish_text(help_of(root, name))}"
            for name in commands_of(parser)
        ]
        for word in words_of(parser):
            value = " -x" if word.value else ""
            if word.choices:
                value += f" -a {_quoted(' '.join(word.choices))}"
            elif word.is_file:
                value = " -r -F"
            names = "".join(
                f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
                for name in word.names
            )
            if word.names or word.choices or word.is_file:
                value = value if word.names else value.removeprefix(" -x").replace(" -r", "")
                lines.append(f"{start}{names}{value} -d {_fish_text(word.help)}")
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def help_of(root: argparse.ArgumentParser, command: str) -> str:
    """Return what the list of commands says about one."""
    for action in root._actions:  # noqa: SLF001 - as in exporter/cli/parser.py
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return next(one.help or "" for one in action._choices_actions if one.dest == command)  # noqa: SLF001
    raise AssertionError(command)


def texts() -> dict[str, str]:
    """Return the text of each file, by its path in the folder."""
    program = build_parser()
    return {
        "completion/bms-exporter.bash": bash(program),
        "completion/bms-exporter.zsh": zsh(program),
        "completion/bms-exporter.fish": fish(program),
        "man/bms-exporter.1": man(program),
    }


if __name__ == "__main__":
    for path, text in texts().items():
        target = Path(sys.argv[1], path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
