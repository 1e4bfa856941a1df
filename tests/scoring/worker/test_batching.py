"""Pictures: tiles in order, in bounded batches that go across them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crackmodel.models.inference.engines import Engine, Scored
from crackmodel.models.inference.model_file import ModelFile
from crackmodel.scoring.worker.batching import Columns, PictureScorer

FEATURES = 16


class MeanEngine:
    """A model that answers with the tile's mean grey level, as probability and in every feature."""

    name = "mean"
    batch_size = 32

    def __init__(self, *, features: bool = True) -> None:
        self.batches: list[int] = []
        self._features = features

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.score(tiles).probabilities

    def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
        self.batches.append(len(tiles))
        mean: npt.NDArray[np.float32] = tiles.mean(axis=(1, 2, 3), dtype=np.float32)
        return Scored(mean, mean[:, None].repeat(FEATURES, axis=1) if self._features else None)


def scorer(engine: Engine, threshold: float = 0.5) -> PictureScorer:
    model = ModelFile("mean@v1", "0" * 64, engine.name, 1.0, threshold, b"")
    return PictureScorer(model, engine, tile=64, overlap=0)


def grey(level: int, rows: int = 1, columns: int = 1) -> npt.NDArray[np.uint8]:
    return np.full((rows * 64, columns * 64, 3), level, np.uint8)


def test_probabilities_come_row_by_row() -> None:
    pixels = grey(0, rows=3, columns=4)
    for row in range(3):
        for column in range(4):
            pixels[row * 64 : (row + 1) * 64, column * 64 : (column + 1) * 64] = 10 * row + column
    found: Columns = {}
    scoring = scorer(MeanEngine(), threshold=11.5)

    scoring.add(pixels, found.update)
    scoring.finish()

    assert found["tile_probabilities"].dtype == np.float32
    assert found["tile_probabilities"].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert (found["verdict"], found["crack_probability"], found["crack_fraction"]) == ("crack", 23, 0.5)


def test_a_huge_picture_is_scored_in_bounded_batches() -> None:
    engine = MeanEngine()
    heard: list[npt.NDArray[np.float32]] = []
    found: Columns = {}
    scoring = scorer(engine)

    scoring.add(grey(9, rows=50, columns=3), found.update, heard.append)
    scoring.finish()

    assert found["tile_probabilities"].tolist() == [9.0] * 150
    assert sum(engine.batches) == 150
    assert max(engine.batches) <= 32
    assert np.concatenate(heard).shape == (150, FEATURES)


def test_batches_go_across_pictures_and_mix_nothing_up() -> None:
    engine = MeanEngine()
    sizes = [1, 40, 1, 1, 31, 32, 33, 1, 0, 70]
    found: list[Columns] = [{} for _ in sizes]
    heard: list[list[float]] = [[] for _ in sizes]
    scoring = scorer(engine)

    for level, size in enumerate(sizes):
        if size:
            scoring.add(
                grey(level, rows=max(size, 2) if size > 1 else 1),
                found[level].update,
                lambda features, own=heard[level]: own.extend(features[:, 0]),
            )
    scoring.finish()

    assert engine.batches == [32] * 6 + [18]
    for level, size in enumerate(sizes):
        assert heard[level] == [level] * size
        assert (
            found[level] == {} if size == 0 else found[level]["tile_probabilities"].tolist() == heard[level]
        )


def test_an_engine_that_fails_on_one_picture_fails_on_no_other() -> None:
    class Touchy(MeanEngine):
        def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
            if (tiles == 13).all(axis=(1, 2, 3)).any():
                raise RuntimeError("unlucky")
            return super().score(tiles)

    found: list[Columns] = [{} for _ in range(4)]
    scoring = scorer(Touchy())

    for columns, level, rows in zip(found, (1, 13, 2, 3), (1, 40, 1, 2), strict=True):
        scoring.add(grey(level, rows=rows), columns.update)
    scoring.finish()

    assert [columns["verdict"] for columns in found] == ["crack", "rejected", "crack", "crack"]
    assert (found[1]["reject_code"], found[1]["reject_detail"]) == ("scoring_failed", "RuntimeError: unlucky")


def test_a_probability_that_is_no_number_is_no_verdict() -> None:
    class Mad(MeanEngine):
        def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
            return Scored(np.where(tiles[:, 0, 0, 0] == 7, np.nan, 1).astype(np.float32), None)

    found: list[Columns] = [{}, {}]
    scoring = scorer(Mad())
    scoring.add(grey(7), found[0].update)
    scoring.add(grey(8), found[1].update)
    scoring.finish()

    assert [columns["verdict"] for columns in found] == ["rejected", "crack"]
