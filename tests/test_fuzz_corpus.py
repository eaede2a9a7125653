"""What fuzzing has learned, without a fuzzer: every input of the corpus keeps its promises."""

import pytest

import targets
from tests.support.paths import PROJECT

CORPUS = PROJECT / "fuzz" / "corpus"


@pytest.mark.parametrize("target", targets.TARGETS)
def test_every_input_of_the_corpus_keeps_the_promises(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())

    assert inputs
    for file in inputs:
        targets.TARGETS[target](file.read_bytes())


def test_there_is_a_corpus_for_every_target_and_no_other() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(targets.TARGETS)
