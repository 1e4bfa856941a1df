from __future__ import annotations

import cv2
import numpy as np
import pytest

from crackmodel.models.preprocessing import TILE_EDGE, prepare_tile, preprocess_fingerprint


@pytest.fixture
def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def test_tile_becomes_160_pixels_of_bytes(photograph: np.ndarray) -> None:
    tile = prepare_tile(photograph)

    assert tile.shape == (160, 160, 3)
    assert tile.dtype == np.uint8


def test_window_of_a_photograph_gives_what_its_copy_gives(photograph: np.ndarray) -> None:
    window = photograph[31:258, 100:327]

    assert not window.flags.c_contiguous
    np.testing.assert_array_equal(prepare_tile(window), prepare_tile(window.copy()))


def test_batch_row_is_written_in_place(photograph: np.ndarray) -> None:
    batch = np.zeros((2, TILE_EDGE, TILE_EDGE, 3), np.uint8)

    returned = prepare_tile(photograph, out=batch[1])

    assert np.shares_memory(returned, batch)
    np.testing.assert_array_equal(batch[1], prepare_tile(photograph))
    assert not batch[0].any()


def test_resize_is_opencvs_bilinear(photograph: np.ndarray) -> None:
    expected = cv2.resize(photograph, (160, 160), interpolation=cv2.INTER_LINEAR)

    np.testing.assert_array_equal(prepare_tile(photograph), expected)


def test_tile_of_the_right_size_is_not_changed() -> None:
    tile = np.random.default_rng(1).integers(0, 256, (160, 160, 3), dtype=np.uint8)

    np.testing.assert_array_equal(prepare_tile(tile), tile)


def test_channels_keep_their_order() -> None:
    red = np.zeros((227, 227, 3), np.uint8)
    red[..., 0] = 200

    assert prepare_tile(red).reshape(-1, 3).max(axis=0).tolist() == [200, 0, 0]


def test_fingerprint_tells_resize_tile_and_overlap() -> None:
    assert preprocess_fingerprint(227, 0) == "cv2-linear-160/tile=227/overlap=0"
    assert preprocess_fingerprint(227, 32) != preprocess_fingerprint(227, 0)
