"""Every expected failure has a reason of its own class, which becomes a metric's label."""

from collections.abc import Iterator

import pytest

from exporter.errors import BmsError, FailureReason


def subclasses(error: type[BmsError]) -> Iterator[type[BmsError]]:
    """Yield a class and all that derive from it."""
    yield error
    for one in error.__subclasses__():
        yield from subclasses(one)


ALL = list(subclasses(BmsError))


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_class_states_its_reason(error: type[BmsError]) -> None:
    assert isinstance(error.reason, FailureReason)


def test_every_reason_belongs_to_an_error() -> None:
    assert {error.reason for error in ALL} == set(FailureReason)
