"""Duplicates and near-duplicates in a data set."""

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
"""Images compared at once: 16 MB of cosines."""


def refuse_two_labels(files: Sequence[str], sha256: Sequence[str], labels: npt.NDArray[np.integer]) -> None:
    """Refuse a data set that labels one picture both ways.

    Args:
        files: Relative paths.
        sha256: The hash of each file's content.
        labels: The label of each file.

    Raises:
        DatasetError: Some files have the same bytes and different labels; the message lists them.
    """
    first: dict[str, int] = {}
    conflicts: dict[str, list[int]] = {}
    for row, digest in enumerate(sha256):
        earlier = first.setdefault(digest, row)
        if labels[earlier] != labels[row]:
            conflicts.setdefault(digest, [earlier]).append(row)
    if conflicts:
        pairs = [" = ".join(files[row] for row in rows) for rows in conflicts.values()]
        more = f"; and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
        raise DatasetError(
            f"{len(pairs)} pictures are in both classes, byte for byte: {'; '.join(pairs[:_LISTED])}{more}.",
            "Decide which label is right and remove the other copy.",
        )


def near_duplicate_links(
    features: npt.NDArray[np.float32], similarity: float = NEAR_DUPLICATE
) -> npt.NDArray[np.int64]:
    """Find clusters of images that look alike.

    Images that are alike through others are in one cluster too. Every image is compared with every other, a
    block with a block at a time. Frames of one film are all alike: their pairs would fill the memory, so what
    two blocks join is reduced to clusters at once.

    Args:
        features: float32 [n, d] of the backbone.
        similarity: Cosine of two images' features from which on they are near-duplicates.

    Returns:
        int64 [links, 2] of rows, the smaller one first: from the first image of each cluster to the others.
    """
    unit = _unit(features)
    member = np.arange(len(unit))
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        for other in range(start, len(unit), _BLOCK):
            known = np.concatenate([member[start : start + _BLOCK], member[other : other + _BLOCK]])
            if (known == known[0]).all():
                continue
            left, right = np.nonzero(block @ unit[other : other + _BLOCK].T >= similarity)
            ends = np.stack([member[left + start], member[right + other]], axis=1)
            new = ends[ends[:, 0] != ends[:, 1]]
            if len(new):
                member = _connected(len(unit), new)[member]
    _, firsts, cluster_of = np.unique(member, return_index=True, return_inverse=True)
    first = firsts[cluster_of]
    rows = np.flatnonzero(first != np.arange(len(unit)))
    return np.stack([first[rows], rows], axis=1).astype(np.int64)


def share_with_twin(
    features: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    similarity: float = NEAR_DUPLICATE,
) -> float:
    """Compute the share of images with a near-duplicate among others.

    Args:
        features: float32 [n, d] of the backbone.
        rows: The images asked about.
        others: Where to look.
        similarity: See `near_duplicate_links`.

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
    """Join images that share a name or are a pair, transitively.

    Args:
        count: How many images.
        names: Lists of a name for each image; an equal name in a list joins.
        pairs: int64 [pairs, 2] of rows.

    Returns:
        int64 [count], each image's cluster.
    """
    edges = [pairs]
    for given in names:
        first: dict[str, int] = {}
        edges.append(np.array([(first.setdefault(name, row), row) for row, name in enumerate(given)]))
    return _connected(count, np.concatenate(edges))


def _connected(count: int, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    left, right = edges.T
    graph = coo_array((np.ones(len(edges), np.int8), (left, right)), shape=(count, count))
    members: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return members


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = features / np.maximum(lengths, 1e-12)
    return unit
