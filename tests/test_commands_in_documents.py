"""Each command in a document is run here or by a test that the document names, or says why not."""

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from exporter.cli.arguments import parse_arguments
from tests.support.exporter_process import START_S, remaining_ah, running_demo, started
from tests.support.paths import PROJECT

DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "bench/*.md")
    for path in sorted(PROJECT.glob(pattern))
    if path.name != "CHANGELOG.md"
]
MARK = re.compile(r"<!-- (?P<kind>run by|not run): (?P<text>[^>]+) -->\n")
BLOCK = re.compile(rf"(?P<mark>(?:{MARK.pattern})?)```sh\n(?P<lines>.*?)```", re.DOTALL)
ENV = "/usr/bin/env"
SYNOPSIS = re.compile(r"\[[A-Z]|\\\||\|[A-Z]")  # `read [NAME\|ADDRESS]` is no command to type


def blocks() -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield each block of commands."""
    for path in DOCUMENTS:
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield path, block


def commands(left_out: str = "") -> Iterator[str]:
    """Yield each command of the blocks but those of one kind, and each between backquotes."""
    for _, block in blocks():
        for line in block["lines"].replace("\\\n", "").splitlines():
            if block["kind"] == left_out:
                continue
            yield from re.split(r" \d?>&\d| \| ", line.partition("  #")[0])
    for path in DOCUMENTS:
        for span in re.findall(r"`([^`\n]+)`", path.read_text(encoding="utf-8")):
            if not SYNOPSIS.search(span):
                yield re.split(r" [|>] ", span)[0]


def of(program: str, left_out: str = "") -> list[list[str]]:
    """Return the arguments of each command that starts a program."""
    every = {one.strip() for one in commands(left_out)}
    found = sorted(one for one in every if one.startswith(f"{program} "))
    return [shlex.split(one)[1:] for one in found]


@pytest.mark.parametrize("words", of("bms-exporter"), ids=" ".join)
def test_command_of_a_document_has_options_that_exist(words: list[str]) -> None:
    parse_arguments(words)


@pytest.mark.parametrize("words", of("make"), ids=" ".join)
def test_target_of_a_document_exists(words: list[str]) -> None:
    planned = subprocess.run(
        [ENV, "make", "--dry-run", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert planned.returncode == 0, planned.stderr


def test_curl_commands_of_the_documents_are_answered_by_the_demo(tmp_path: Path) -> None:
    given = of("curl", left_out="not run")
    assert len(given) > 2
    with running_demo() as demo:
        for words in given:
            here = [
                re.sub(
                    r"^(http://)?(localhost|HOST):12200", f"http://127.0.0.1:{demo.port}", word
                ).replace("NAME", "camper")
                for word in words
            ]
            done = subprocess.run(
                [ENV, "curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", *here],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, (words, done.stderr)
            assert done.stdout.endswith(("\n200", "\n204")), (words, done.stdout[-200:])


def test_each_block_of_commands_says_what_runs_it() -> None:
    assert len(list(blocks())) > 10
    for path, block in blocks():
        place = f"{path.relative_to(PROJECT)}: {block['lines']}"
        assert block["mark"], f"{place}: write <!-- run by: FILE --> or <!-- not run: REASON -->"
        if block["kind"] == "run by":
            for file in block["text"].split(", "):
                assert (PROJECT / file).is_file(), place


def test_make_demo_serves_what_its_last_line_says() -> None:
    words = [ENV, "make", "--silent", "demo", "ARGS=--web.listen-address 127.0.0.1:0"]
    with started(words) as demo:
        while not (found := re.search(r"^try: curl (\S+/metrics), or", demo.log(), re.MULTILINE)):
            assert demo.process.poll() is None, demo.log()
            assert time.monotonic() - demo.started_s < START_S, demo.log()
            time.sleep(0.05)
        try:
            text = httpx.get(f"http://{found[1]}", timeout=30.0).text
            assert remaining_ah(text)["camper"] == 131.0
        finally:
            demo.stop()
