"""Every input of the fuzz corpus keeps the promises of its target, without a fuzzer."""

import functools

import pytest

import corpus
import targets
from exporter.config import loader


@pytest.mark.parametrize("target", targets.TARGETS)
def test_every_input_of_the_fuzz_corpus_keeps_the_promises(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Built once, as in fuzz/fuzz.py: it takes longer than everything else.
    monkeypatch.setattr(loader, "make_converter", functools.cache(loader.make_converter))
    inputs = corpus.inputs(target)

    assert inputs
    for data in inputs:
        targets.TARGETS[target](data)


def test_every_fuzz_target_has_a_corpus_and_no_corpus_lacks_its_target() -> None:
    assert {path.stem for path in corpus.CORPUS.iterdir()} == set(targets.TARGETS)
