"""Errors cross process borders and are read by people."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from crackmodel import errors
from crackmodel.errors import CrackmodelError, ImageRejected


def _tree(root: type[CrackmodelError]) -> Iterator[type[CrackmodelError]]:
    yield root
    for branch in root.__subclasses__():
        yield from _tree(branch)


@pytest.mark.parametrize("kind", list(_tree(CrackmodelError)), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_with_both_sentences(kind: type[CrackmodelError]) -> None:
    error = pickle.loads(pickle.dumps(kind("The disk is full.", "Free some space.")))

    assert type(error) is kind
    assert (error.problem, error.remedy) == ("The disk is full.", "Free some space.")
    assert str(error) == "The disk is full. Free some space."


def test_a_rejected_image_survives_pickling() -> None:
    rejected = pickle.loads(pickle.dumps(ImageRejected("truncated", "decode", "ends early")))

    assert (rejected.code, rejected.stage, rejected.detail) == ("truncated", "decode", "ends early")
    assert str(rejected) == "truncated at decode: ends early"


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""

    missing = [kind.__name__ for kind in _tree(CrackmodelError) if kind.__name__ not in drawn]
    assert not missing


def test_exit_codes_are_those_of_the_documentation() -> None:
    special = {kind.__name__: kind.exit_code for kind in _tree(CrackmodelError) if kind.exit_code != 1}

    assert special == {"UsageError": 2, "TooManyRejected": 3}
