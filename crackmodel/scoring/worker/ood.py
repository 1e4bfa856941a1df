"""Find pictures of a shard that look unlike the model's training images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.inference.model_file import ModelFile
from crackmodel.scoring.worker.batching import OnFeatures

TOGETHER: Final = 256
"""Tiles that are measured at once. Right after the network one alone takes 130 us, of 32 each takes 9."""


class OutOfDistribution:
    """Collects the features of a shard's pictures, and computes their `ood_*` columns.

    Features are kept no longer than until some hundred tiles are together: 5 kB a tile.

    Args:
        model: Its threshold and statistics count; without them there are no columns.
    """

    def __init__(self, model: ModelFile) -> None:
        self._distribution = model.distribution
        self._limit = None if model.ood_threshold is None else np.float32(model.ood_threshold)
        self._waiting: list[tuple[int, npt.NDArray[np.float32]]] = []
        self._tiles = 0
        self._distances: dict[int, list[npt.NDArray[np.float32]]] = {}

    def listener(self, picture: int) -> OnFeatures | None:
        """Return the function that takes a picture's features, if needed."""
        if self._distribution is None or self._limit is None:
            return None
        return partial(self._add, picture)

    def columns(self, picture: int) -> dict[str, Any]:
        """Return the columns of a picture; none where its features never came.

        The score is the median, because the question is whether the picture as a whole is of something else:
        of the 234 tiles of a photograph of nothing but concrete one in a hundred is over the threshold too.
        """
        self._measure()
        limit = self._limit
        if limit is None or picture not in self._distances:
            return {}
        parts = self._distances[picture]
        distances = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if len(distances) == 1:  # a close-up, and NumPy's functions of one number take as long as its hash
            score, fraction = distances[0], np.float32(distances[0] > limit)
        else:
            score = np.float32(np.median(distances))
            fraction = np.float32(np.count_nonzero(distances > limit) / len(distances))
        return {"ood_score": score, "ood_fraction": fraction, "ood_threshold": limit}

    def _add(self, picture: int, features: npt.NDArray[np.float32]) -> None:
        self._waiting.append((picture, features))
        self._tiles += len(features)
        if self._tiles >= TOGETHER:
            self._measure()

    def _measure(self) -> None:
        if self._distribution is None or not self._waiting:
            return
        together = self._distribution.distances(np.concatenate([features for _, features in self._waiting]))
        start = 0
        for picture, features in self._waiting:
            stop = start + len(features)
            self._distances.setdefault(picture, []).append(together[start:stop])
            start = stop
        self._waiting, self._tiles = [], 0


def is_unfamiliar(row: Mapping[str, Any]) -> bool:
    """Check whether a row is marked as unlike the training images."""
    score = row.get("ood_score")
    return score is not None and bool(score > row["ood_threshold"])
