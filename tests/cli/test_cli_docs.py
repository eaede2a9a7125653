"""Shell completion and the man page are those of the parser, and bash completes with them."""

import subprocess
from pathlib import Path

import pytest

import cli_docs
from tests.support.paths import PROJECT

DEPLOY = PROJECT / "deploy"


@pytest.mark.parametrize("path", cli_docs.texts())
def test_committed_file_is_the_one_that_make_docs_writes(path: str) -> None:
    assert (DEPLOY / path).read_text(encoding="utf-8") == cli_docs.texts()[path], "run make docs"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ([""], "scan read settings doctor decode demo help"),
        (["re"], "read"),
        (["--config.e"], "--config.example"),
        (["read", "--fo"], "--format"),
        (["read", "--format", ""], "table json metrics"),
        (["read", "--format", "=", "j"], "json"),
        (["--log.level", "="], "debug info warning error"),
        (["demo", "--speed", ""], ""),
        (["help", "s"], "scan settings"),
        (["decode", "fra"], "frames.hex"),
        (["--config.file", "fra"], "frames.hex"),
    ],
)
def test_bash_completes(words: list[str], completed: str, tmp_path: Path) -> None:
    (tmp_path / "frames.hex").touch()
    script = (
        'source "$1"; shift; compopt() { :; }; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_bms_exporter; echo "${COMPREPLY[*]}"'
    )
    file = DEPLOY / "completion" / "bms-exporter.bash"

    printed = subprocess.run(
        ["/bin/bash", "-c", script, "bash", file, "bms-exporter", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed.strip() == completed
