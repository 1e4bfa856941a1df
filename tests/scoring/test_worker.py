"""The worker: tiles in order, groups of files in order, and a shard is one hidden file."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from crackmodel.scoring.shards import ListedFile
from crackmodel.scoring.worker import _group_by_bytes, predict_tiles
from crackmodel.surveys.tiles import tile_grid


class MeanEngine:
    """A model that answers with the tile's mean grey level."""

    name = "mean"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.batches.append(len(tiles))
        mean: npt.NDArray[np.float32] = tiles.mean(axis=(1, 2, 3), dtype=np.float32)
        return mean


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

    found = predict_tiles(pixels, tile_grid(*pixels.shape[:2], tile=64), engine)

    assert found.tolist() == [9.0] * 150
    assert sum(engine.batches) == 150
    assert max(engine.batches) <= 32


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60))
def test_groups_hold_every_file_once_and_close_at_about_a_megabyte(sizes: list[int]) -> None:
    now = datetime.now(UTC)
    files = [ListedFile(f"{number}.jpg", size, now) for number, size in enumerate(sizes)]
    groups = list(_group_by_bytes(files))

    assert [file for group in groups for file in group] == files
    assert all(sum(file.bytes for file in group[:-1]) < 2**20 for group in groups)
