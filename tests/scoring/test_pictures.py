"""One picture: tiles in order, bounded batches, and what distances from the training images mean for it."""

from __future__ import annotations

import pickle

import numpy as np
import numpy.typing as npt
import pytest

from crackmodel.models.engines import Scored
from crackmodel.models.familiarity import Familiarity
from crackmodel.scoring.pictures import ModelFile, is_unfamiliar, predict_tiles, score_picture
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


@pytest.fixture(scope="module")
def grey() -> Familiarity:
    """Features of grey tiles, level 100 and thereabouts."""
    levels = np.random.default_rng(1).normal(100, 5, (200, 1)).astype(np.float32)
    grain = np.random.default_rng(2).normal(0, 1, (200, FEATURES)).astype(np.float32)
    return Familiarity.fit(levels + grain, components=2)


def model(familiarity: Familiarity | None, threshold: float | None = 2.0) -> ModelFile:
    return ModelFile("m@v1", "0" * 64, "litert", 1.0, 0.5, b"", threshold, familiarity)


def slab(rows: int, columns: int, level: int = 100) -> npt.NDArray[np.uint8]:
    return np.full((rows * 227, columns * 227, 3), level, np.uint8)


def test_probabilities_come_row_by_row() -> None:
    pixels = np.zeros((3 * 227, 4 * 227, 3), np.uint8)
    for row in range(3):
        for column in range(4):
            pixels[row * 227 : (row + 1) * 227, column * 227 : (column + 1) * 227] = 10 * row + column

    found, distances = predict_tiles(pixels, tile_grid(*pixels.shape[:2]), MeanEngine())

    assert found.dtype == np.float32
    assert found.tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert distances is None


def test_a_huge_picture_is_scored_in_bounded_batches(grey: Familiarity) -> None:
    engine = MeanEngine()
    pixels = np.full((50 * 64, 3 * 64, 3), 9, np.uint8)

    found, distances = predict_tiles(pixels, tile_grid(*pixels.shape[:2], tile=64), engine, grey)

    assert found.tolist() == [9.0] * 150
    assert sum(engine.batches) == 150
    assert max(engine.batches) <= 32
    np.testing.assert_array_equal(distances, np.full(150, distances[0]))


def test_picture_of_something_else_is_flagged_and_keeps_its_verdict(grey: Familiarity) -> None:
    known = score_picture(slab(2, 3), model(grey), MeanEngine(), tile=227, overlap=0)
    other = score_picture(slab(2, 3, level=9), model(grey), MeanEngine(), tile=227, overlap=0)

    assert known["ood_score"] < known["ood_threshold"] == 2.0 < other["ood_score"]
    assert (known["ood_fraction"], other["ood_fraction"]) == (0.0, 1.0)
    assert (is_unfamiliar(known), is_unfamiliar(other)) == (False, True)
    assert known["verdict"] == other["verdict"] == "crack"


def test_odd_corner_shows_in_the_share_and_does_not_flag_the_picture(grey: Familiarity) -> None:
    pixels = slab(2, 3)
    pixels[:227, :454] = 9

    columns = score_picture(pixels, model(grey), MeanEngine(), tile=227, overlap=0)

    assert columns["ood_fraction"] == pytest.approx(1 / 3)
    assert not is_unfamiliar(columns)


@pytest.mark.parametrize("known", [True, False], ids=["no features", "no statistics"])
def test_model_that_cannot_tell_leaves_the_columns_null(grey: Familiarity, known: bool) -> None:
    unable = model(grey) if known else model(None, None)

    columns = score_picture(slab(1, 1), unable, MeanEngine(features=not known), tile=227, overlap=0)

    assert not any(name.startswith("ood") for name in columns)
    assert not is_unfamiliar(columns)


def test_workers_get_the_statistics_with_the_model(grey: Familiarity) -> None:
    sent = pickle.loads(pickle.dumps(model(grey)))

    assert sent == model(grey)
    features = np.full((3, FEATURES), 90, np.float32)
    np.testing.assert_array_equal(sent.familiarity.distances(features), grey.distances(features))
