from __future__ import annotations

import numpy as np
import pytest

from crackmodel.models.augmentation import backgrounds
from crackmodel.models.augmentation.backgrounds import SCENES, Scene, clouds, draw_scene, half_plane, litter
from tests.models.drawings import draw_clear


@pytest.mark.parametrize("edge", [32, 160, 227])
def test_scene_is_a_tile(edge: int) -> None:
    for seed in range(40):
        scene = draw_scene(np.random.default_rng(seed), edge)

        assert scene.shape == (edge, edge, 3)
        assert scene.dtype == np.uint8
        assert scene.flags.c_contiguous


def test_same_chance_draws_the_same_scene() -> None:
    one, two, other = (draw_scene(np.random.default_rng(seed), 96) for seed in (7, 7, 8))

    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize("scene", dict.fromkeys(SCENES), ids=lambda scene: scene.__name__.strip("_"))
def test_every_scene_shows_something_each_time(scene: Scene) -> None:
    drawn = [scene(np.random.default_rng(seed), 96) for seed in range(12)]

    assert all(picture.shape == (96, 96, 3) and np.isfinite(picture).all() for picture in drawn)
    assert all(picture.std(axis=(0, 1)).max() > 0.5 for picture in drawn)
    assert np.ptp([picture.mean() for picture in drawn]) > 20


def test_scenes_have_colours_that_concrete_has_not() -> None:
    means = np.array([draw_scene(np.random.default_rng(seed), 64).mean(axis=(0, 1)) for seed in range(80)])

    greener = (means[:, 1] > 1.1 * means[:, 0]) & (means[:, 1] > 1.1 * means[:, 2])
    assert 0.15 < greener.mean() < 0.8


def test_litter_covers_a_part_and_leaves_the_tile_alone() -> None:
    tile = draw_clear(np.random.default_rng(1))
    before = tile.copy()

    changed = []
    for seed in range(60):
        made = litter(tile, np.random.default_rng(seed))
        changed.append(np.mean(np.abs(made.astype(int) - tile).max(axis=2) > 8))

    np.testing.assert_array_equal(tile, before)
    assert np.mean(np.array(changed) > 0.002) > 0.6
    assert np.median(changed) < 0.5


def test_clouds_of_large_cells_are_smooth() -> None:
    fine, broad = (clouds(np.random.default_rng(3), 160, cell) for cell in (2, 40))

    assert fine.shape == broad.shape == (160, 160)
    assert np.abs(np.diff(broad, axis=0)).mean() < 0.2 * np.abs(np.diff(fine, axis=0)).mean()
    assert 0.3 < fine.std() < 1.3


def test_stretched_clouds_run_downwards() -> None:
    field = clouds(np.random.default_rng(3), 160, 3, 12)

    assert np.abs(np.diff(field, axis=0)).mean() < 0.3 * np.abs(np.diff(field, axis=1)).mean()


def test_half_plane_has_two_sides() -> None:
    for seed in range(10):
        side = half_plane(np.random.default_rng(seed), 100, 1.0)

        assert side.min() < 0.01
        assert side.max() > 0.99
        assert np.mean((side > 0.1) & (side < 0.9)) < 0.12


def test_module_needs_no_training_package() -> None:
    assert not hasattr(backgrounds, "tensorflow")
    assert not hasattr(backgrounds, "keras")
