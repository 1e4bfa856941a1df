"""Images of a data set that are the same, byte for byte or to the eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError

NEAR_DUPLICATE: Final = 0.94
"""Cosine similarity of backbone features. In 2,000 images of METU one in a hundred has such a neighbour
(byte-duplicates removed); from 0.90 down a quarter of SDNET2018's deck hangs together in one cluster."""

_LISTED: Final = 10
_BLOCK: Final = 2000


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


def near_duplicate_pairs(
    features: npt.NDArray[np.float32], similarity: float = NEAR_DUPLICATE
) -> npt.NDArray[np.int64]:
    """Find the pairs of images that look alike.

    Args:
        features: float32 [n, d] of the backbone.
        similarity: Cosine of two images' features from which on they are near-duplicates.

    Returns:
        int64 [pairs, 2] of rows, the smaller one first.
    """
    unit = _unit(features)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        # Only columns from the block on: every pair is seen once.
        left, right = np.nonzero(block @ unit[start:].T >= similarity)
        pairs = np.stack([left + start, right + start], axis=1)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def share_with_twin(
    features: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    similarity: float = NEAR_DUPLICATE,
) -> float:
    """Say which share of some images has a near-duplicate among others.

    Args:
        features: float32 [n, d] of the backbone.
        rows: The images asked about.
        others: Where to look.
        similarity: See `near_duplicate_pairs`.

    Returns:
        0..1.
    """
    unit = _unit(features)
    known = unit[others].T
    hits = sum(
        int(((unit[rows[start : start + _BLOCK]] @ known).max(axis=1) >= similarity).sum())
        for start in range(0, len(rows), _BLOCK)
    )
    return hits / len(rows)


def cluster(
    count: int, names: Sequence[Sequence[str]], pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Join images that share a name or are a pair, and whatever hangs together through them.

    Args:
        count: How many images.
        names: Lists of a name for each image; an equal name in a list joins.
        pairs: int64 [pairs, 2] of rows.

    Returns:
        int64 [count], each image's cluster.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    edges = [pairs]
    for given in names:
        first: dict[str, int] = {}
        edges.append(np.array([(first.setdefault(name, row), row) for row, name in enumerate(given)]))
    left, right = np.concatenate(edges).T
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    members: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return members


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = features / np.maximum(lengths, 1e-12)
    return unit
