"""The man page, from the parser; cli_docs.py writes it."""

import argparse

from exporter.cli.parser import commands_of

HEAD = r"""
.TH BMS\-EXPORTER 1
.SH NAME
bms\-exporter \- Prometheus exporter for LiFePO4 batteries with a JBD BMS
.SH SYNOPSIS
.B bms\-exporter
.RI [ OPTION " ...]"
.br
.B bms\-exporter
.I COMMAND
.RI [ OPTION " ...]"
.SH DESCRIPTION
"""
TAIL = r"""
.SH FILES
.TP
.I config.yaml
The configuration in the current folder.
.TP
.I /etc/bms\-exporter/config.yaml
The configuration of the service, and of every command that finds none in the current folder.
.SH EXIT STATUS
.TP
.B 0
It is done, or the exporter was stopped.
.TP
.B 1
It failed: the configuration has mistakes, or a battery was not read.
.TP
.B 2
The command line is wrong.
.TP
.B 130
Ctrl\-C ended it.
.SH SEE ALSO
.BR bluetoothctl (1),
the documents in
.I /usr/share/doc/bms\-exporter
"""
OWN = ("arguments", "options")


def man(root: argparse.ArgumentParser) -> str:
    """Return the page in the language of man."""
    lines = [r".\" Made by `make docs` from exporter/cli.", HEAD.strip()]
    lines.append(escaped(root.description or ""))
    for group in root._action_groups:  # noqa: SLF001 - argparse has no public name for them
        lines += _group(group, f".SH {(group.title or '').upper()}")
    lines.append(".SH COMMANDS")
    lines.append(f"Every command takes the common options, {bold('demo')} those of serving, too.")
    for name, parser in commands_of(root).items():
        lines += [f".SS {escaped(name)}", escaped(parser.description or "")]
        for group in parser._action_groups:  # noqa: SLF001 - as above
            lines += _group(group, ".PP") if group.title in OWN else []
        lines += _example(parser)
    lines += [*_example(root, ".SH EXAMPLES"), TAIL.strip()]
    return "\n".join(lines) + "\n"


def _group(group: argparse._ArgumentGroup, heading: str) -> list[str]:
    options = [
        one
        for one in group._group_actions  # noqa: SLF001 - as above
        if not isinstance(one, argparse._SubParsersAction | argparse._HelpAction)  # noqa: SLF001
    ]
    lines = [heading] if options else []
    for one in options:
        value = "" if one.nargs == 0 else str(one.metavar)
        names = ", ".join(bold(name) for name in one.option_strings)
        lines += [".TP", f"{names} {italic(value)}".strip(), escaped(one.help or "")]
    return lines


def _example(parser: argparse.ArgumentParser, heading: str = ".PP") -> list[str]:
    _, _, example = (parser.epilog or "").partition("\n")
    return [heading, ".EX", *map(escaped, example.splitlines()), ".EE"] if example else []


def escaped(text: str) -> str:
    """Return a text without the marks of roff; a line may begin with none."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(
        r"\&" + line if line.startswith((".", "'")) else line for line in text.split("\n")
    )


def bold(text: str) -> str:
    return rf"\fB{escaped(text)}\fR"


def italic(text: str) -> str:
    return rf"\fI{escaped(text)}\fR" if text else ""
