"""Maps of where a model looks: exact, and where the crack is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crackmodel.models.evaluation.activation_maps import activation_maps
from crackmodel.models.inference.engines import LiteRTModel, log_odds
from crackmodel.models.registry.registry import PRETRAINED
from tests.models.drawings import draw_clear, draw_crack


@pytest.fixture(scope="module")
def model() -> bytes:
    return (PRETRAINED / "model.tflite").read_bytes()


def test_mean_of_a_map_is_the_verdict(model: bytes) -> None:
    rng = np.random.default_rng(4)
    tiles = np.stack([draw(rng) for draw in (draw_crack, draw_clear) for _ in range(4)])

    maps = activation_maps(model, tiles)

    assert maps is not None
    assert maps.shape == (8, 5, 5)
    expected = log_odds(LiteRTModel(model).run(tiles))
    assert expected.std() > 1
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), expected, rtol=1e-3, atol=1e-2)


def test_model_looks_at_the_crack(model: bytes) -> None:
    tile = draw_clear(np.random.default_rng(1))
    left, right = tile.copy(), tile.copy()
    for picture, x in ((left, 30), (right, 130)):
        line = np.array([[x, 0], [x + 8, 60], [x - 6, 110], [x + 3, 160]], np.int32)
        cv2.polylines(picture, [line], isClosed=False, color=(35, 32, 30), thickness=5)

    maps = activation_maps(model, np.stack([left, right]))

    assert maps is not None
    columns = maps.mean(axis=1)
    assert columns[0, :2].mean() > columns[0, 3:].mean()
    assert columns[1, 3:].mean() > columns[1, :2].mean()
