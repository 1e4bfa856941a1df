"""Files of a data set with the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError

_LISTED: Final = 10


def refuse_two_labels(files: Sequence[str], sha256: Sequence[str], labels: npt.NDArray[np.integer]) -> None:
    """Refuse a data set that calls the same picture a crack and clear.

    Args:
        files: Relative paths.
        sha256: The hash of each file's content.
        labels: The label of each file.

    Raises:
        DatasetError: Some files have the same bytes and different labels; the message lists them.
    """
    first: dict[str, int] = {}
    torn: dict[str, list[int]] = {}
    for row, digest in enumerate(sha256):
        earlier = first.setdefault(digest, row)
        if labels[earlier] != labels[row]:
            torn.setdefault(digest, [earlier]).append(row)
    if torn:
        pairs = [" = ".join(files[row] for row in rows) for rows in torn.values()]
        more = f"; and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
        raise DatasetError(
            f"{len(pairs)} pictures are in both classes, byte for byte: {'; '.join(pairs[:_LISTED])}{more}.",
            "Decide which label is right and remove the other copy.",
        )
