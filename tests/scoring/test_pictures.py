"""One picture: tiles in order, in bounded batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crackmodel.models.engines import Scored
from crackmodel.scoring.pictures import predict_tiles
from crackmodel.surveys.tiles import tile_grid

FEATURES = 16


class MeanEngine:
    """A model that answers with the tile's mean grey level, as probability and in every feature."""

    name = "mean"

    def __init__(self, *, features: bool = True) -> None:
        self.batches: list[int] = []
        self._features = features

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.score(tiles).probabilities

    def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
        self.batches.append(len(tiles))
        mean: npt.NDArray[np.float32] = tiles.mean(axis=(1, 2, 3), dtype=np.float32)
        return Scored(mean, mean[:, None].repeat(FEATURES, axis=1) if self._features else None)


def test_probabilities_come_row_by_row() -> None:
    pixels = np.zeros((3 * 227, 4 * 227, 3), np.uint8)
    for row in range(3):
        for column in range(4):
            pixels[row * 227 : (row + 1) * 227, column * 227 : (column + 1) * 227] = 10 * row + column

    found = predict_tiles(pixels, tile_grid(*pixels.shape[:2]), MeanEngine())

    assert found.dtype == np.float32
    assert found.tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]


def test_a_huge_picture_is_scored_in_bounded_batches() -> None:
    engine = MeanEngine()
    pixels = np.full((50 * 64, 3 * 64, 3), 9, np.uint8)

    heard: list[npt.NDArray[np.float32]] = []

    found = predict_tiles(pixels, tile_grid(*pixels.shape[:2], tile=64), engine, heard.append)

    assert found.tolist() == [9.0] * 150
    assert sum(engine.batches) == 150
    assert max(engine.batches) <= 32
    assert np.concatenate(heard).shape == (150, FEATURES)
