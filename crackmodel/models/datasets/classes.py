"""The class of cracks of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from crackmodel.errors import DatasetError

POSITIVE_NAMES: Final = frozenset({
    "positive", "positives", "crack", "cracks", "cracked", "with_crack", "with_cracks", "defect",
    "1", "true", "yes",
})  # fmt: skip
"""Folder names or labels, in lower case, that are taken for the class of cracks."""


def positive_class(
    root: Path, names: Sequence[str], positive: str | None, kind: str, also: Sequence[str] = ()
) -> str:
    """Find the class that means cracks.

    Args:
        root: The data set, for error messages.
        names: Its two classes.
        positive: What the user said about this data set.
        kind: The word for a class in error messages.
        also: Names that mean cracks wherever they occur; they go before the well-known ones.

    Raises:
        DatasetError: There is no such class, or it is not clear which one it is.
    """
    if positive is not None:
        if positive not in names:
            raise DatasetError(
                f"The data set {root} has no {kind} {positive!r}.",
                f"Name the {kind} of cracks: {' or '.join(names)}.",
            )
        return positive
    recognised = [name for name in names if name in also] or [
        name for name in names if name.lower().replace("-", "_").replace(" ", "_") in POSITIVE_NAMES
    ]
    if len(recognised) != 1:
        raise DatasetError(
            f"It is not clear which {kind} of {root} means cracks: {' or '.join(names)}.",
            "Say it with --positive NAME.",
        )
    return recognised[0]
