from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from crackmodel.models.augmentation.surfaces import recede, relief, roughen
from tests.models.drawings import draw_clear

SMOOTH = np.full((160, 160, 3), 150, np.uint8)


@pytest.mark.parametrize("change", [recede, relief, roughen])
def test_surface_is_a_new_tile_by_chance_alone(change: Callable[..., np.ndarray]) -> None:
    tile = draw_clear(np.random.default_rng(1))
    before = tile.copy()

    for seed in range(30):
        one, two = (change(tile, np.random.default_rng(seed)) for _ in range(2))

        assert one.shape == tile.shape
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(tile, before)


@pytest.mark.parametrize("change", [relief, roughen])
def test_surface_keeps_its_brightness(change: Callable[..., np.ndarray]) -> None:
    made = [change(SMOOTH, np.random.default_rng(seed)) for seed in range(40)]

    assert all(100 < tile.mean() < 200 for tile in made)
    assert np.mean([tile.std() > 0.5 for tile in made]) > 0.9


def test_relief_has_dark_and_bright_flanks() -> None:
    made = np.stack([relief(SMOOTH, np.random.default_rng(seed)).astype(int) for seed in range(40)])

    assert made.min() < 120
    assert made.max() > 180


def test_distance_changes_the_scale_of_what_is_seen() -> None:
    """Stripes two pixels wide blur where they are seen from further, and widen where from nearer."""
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 200

    crossings = []
    for seed in range(40):
        row = recede(stripes, np.random.default_rng(seed))[80, :, 0].astype(int)
        crossings.append(int(np.sum(np.diff(row > row.mean()))))

    assert min(crossings) < 60
    assert max(crossings) > 90
