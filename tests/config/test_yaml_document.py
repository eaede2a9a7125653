"""A YAML document keeps its lines and duplicate keys, and never takes much memory."""

import pytest

from exporter.config.yaml_document import Document, Misread, read_yaml, shown
from exporter.errors import ConfigError


def read(text: str, **options: set[str]) -> Document:
    return read_yaml(text, "my.yaml", **options)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    return problem


def test_scalars_become_plain_data() -> None:
    document = read("{a: 1, b: true, c: 1.5, d: text, e: null, f: [1], g: !!int x}")

    assert document.data == {
        "a": 1, "b": True, "c": 1.5, "d": "text", "e": None, "f": [1], "g": "x",
    }  # fmt: skip


def test_value_of_a_verbatim_key_stays_as_written() -> None:
    assert read("a: 10:20:30\nb: 10:20:30", verbatim={"a"}).data == {"a": "10:20:30", "b": 37230}


def test_complaint_has_the_line_of_its_part() -> None:
    document = read("a:\n  - b: 1\n    c: 2\n")

    assert document.complaint("a[0].c", "wrong") == (3, "a[0].c: wrong")


@pytest.mark.parametrize(("path", "line"), [("a[0].x", 2), ("x.y", 1), ("", 1)])
def test_complaint_about_a_missing_part_has_the_line_of_its_parent(path: str, line: int) -> None:
    document = read("a:\n  - b: 1\n")

    assert document.complaint(path, "missing")[0] == line


def test_error_lists_complaints_by_line_and_each_once() -> None:
    document = read("a: 1\nb: 2\n")

    error = document.error([(2, "b: wrong"), (1, "a: wrong"), (2, "b: wrong")])

    assert error.problems == ("my.yaml:1: a: wrong", "my.yaml:2: b: wrong")


def test_error_escapes_line_ends_and_control_codes() -> None:
    document = read("a: 1")

    error = document.error([(1, "b\nc\x1b[31m\ufeff\u202e: é 'd' \\: wrong")])

    assert error.problems == (r"my.yaml:1: b\nc\x1b[31m\ufeff\u202e: é 'd' \: wrong",)


def test_duplicate_key_is_reported_and_the_first_value_counts() -> None:
    document = read("a: 1\nb: 2\na: 3\n")

    assert document.data == {"a": 1, "b": 2}
    assert document.duplicates == ((3, "a: given twice, first in line 1: remove one"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "a:\n  - b: 1\n   c: 2", "3: the indentation does not match", id="indentation"
        ),
        pytest.param("a: b: c", "1: a second colon: put", id="two colons"),
        pytest.param("a:\n\t- b", "2: a tab: indent with spaces", id="a tab"),
        pytest.param(
            "a:\n  -\tb: c",
            "2: a tab: indent with spaces",
            id="a tab behind a dash",
        ),
        pytest.param("a: 'x", "1: this quote is not closed", id="an open quote"),
        pytest.param("a: b\nc", "2: a colon and a blank are missing after the key", id="no colon"),
        pytest.param("a: b\n---\n", "2: a second document begins here", id="two documents"),
        pytest.param("a: [1, 2", "1: this [ is not closed", id="a list"),
        pytest.param("a: *x", "1: a value cannot begin with *", id="an alias"),
        pytest.param("\x01", "1: a control character: delete it", id="a character"),
    ],
)
def test_text_that_is_not_yaml_is_refused_in_plain_words(text: str, problem: str) -> None:
    said = refusal(text)

    assert said.startswith(f"my.yaml:{problem}")
    assert "<" not in said
    assert "\n" not in said


def test_deep_nesting_is_refused() -> None:
    assert refusal("[" * 10_000) == "my.yaml:1: nested too deeply"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("a: [" + "{}," * 30_000 + "]", "1: more than 10000 values", id="values"),
        pytest.param(
            f"x: &a {'y' * 70_000}\nb: [" + "{name: *a}," * 2500 + "]",
            "1: more than 1000000 characters",
            id="complaints that quote 70 kB",
        ),
        pytest.param(
            f"? {'k' * 80_000}\n: [" + "1," * 9000 + "]",
            "2: more than 1000000 characters",
            id="paths of 80 kB",
        ),
    ],
)
def test_hundred_kilobytes_do_not_become_a_gigabyte(text: str, problem: str) -> None:
    assert refusal(text) == f"my.yaml:{problem}"


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "1" * 5000, "1" + ":1" * 5000])
def test_number_that_python_cannot_print_stays_text(number: str) -> None:
    assert read(f"a: {number}").data == {"a": number}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (True, "true"),
        ([1], "a list"),
        ({"a": 1}, "keys with values"),
        (Misread("on", "true or false"), "on"),
        ("", "nothing"),
        ("text", "'text'"),
        (7, "7"),
    ],
)
def test_value_is_shown_without_python_jargon(value: object, words: str) -> None:
    assert shown(value) == words
