from __future__ import annotations

import cv2
import numpy as np
import pytest

from crackmodel.models.augmentation import variations
from crackmodel.models.augmentation.surfaces import enlarge
from crackmodel.models.augmentation.variations import Augmentation, augment_tile
from tests.models.drawings import draw_clear, draw_crack

ALWAYS = Augmentation(plain=0, collage=1, zoom=1, light=1, shadow=1, blur=1, noise=1, jpeg=1)


@pytest.fixture
def tiles() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [draw_crack(rng), *(draw_clear(rng) for _ in range(3))]


@pytest.mark.parametrize("how", [Augmentation(), ALWAYS, Augmentation(plain=1)])
def test_variation_is_a_tile_again(tiles: list[np.ndarray], how: Augmentation) -> None:
    for seed in range(20):
        varied = augment_tile(tiles[0], np.random.default_rng(seed), tiles[1:], how)

        assert varied.shape == (160, 160, 3)
        assert varied.dtype == np.uint8
        assert varied.flags.c_contiguous


def test_original_is_not_touched(tiles: list[np.ndarray]) -> None:
    before = [tile.copy() for tile in tiles]

    for seed in range(20):
        augment_tile(tiles[0], np.random.default_rng(seed), tiles[1:], ALWAYS)

    for tile, copy in zip(tiles, before, strict=True):
        np.testing.assert_array_equal(tile, copy)


def test_same_chance_gives_the_same_variation(tiles: list[np.ndarray]) -> None:
    one, two, other = (
        augment_tile(tiles[0], np.random.default_rng(seed), tiles[1:], ALWAYS) for seed in (7, 7, 8)
    )

    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_plain_tile_is_only_turned(tiles: list[np.ndarray]) -> None:
    varied = augment_tile(tiles[0], np.random.default_rng(0), tiles[1:], Augmentation(plain=1))

    np.testing.assert_array_equal(np.sort(varied, axis=None), np.sort(tiles[0], axis=None))


def test_crack_survives_in_a_collage(tiles: list[np.ndarray]) -> None:
    made = variations.collage(tiles[0], tiles[1:], np.random.default_rng(0))

    quarters = [made[top : top + 80, left : left + 80] for top in (0, 80) for left in (0, 80)]
    darkest = sorted(int(quarter.min()) for quarter in quarters)
    assert darkest[0] < 70
    assert darkest[1] > 90


def test_turns_reach_all_eight_positions() -> None:
    corner = np.zeros((160, 160, 3), np.uint8)
    corner[:40, :80] = 255

    seen = {variations.turn(corner, np.random.default_rng(seed)).tobytes() for seed in range(100)}

    assert len(seen) == 8


def test_shadow_darkens_one_side_only() -> None:
    white = np.full((160, 160, 3), 200, np.uint8)

    for seed in range(10):
        shaded = variations.cast_shadow(white, np.random.default_rng(seed))

        assert shaded.max() >= 195
        assert shaded.min() <= 175


def test_light_changes_the_mean_within_bounds() -> None:
    grey = np.full((160, 160, 3), 128, np.uint8)

    means = [variations.relight(grey, np.random.default_rng(seed)).mean() for seed in range(60)]

    assert min(means) < 95
    assert max(means) > 155
    assert 30 < min(means) <= max(means) < 230


def test_compression_changes_pixels_a_little(tiles: list[np.ndarray]) -> None:
    packed = variations.compress(tiles[0], 60)

    difference = np.abs(packed.astype(int) - tiles[0]).mean()
    assert 0 < difference < 12


def test_zoom_fills_the_tile_with_a_part_of_it(tiles: list[np.ndarray]) -> None:
    ramp = np.broadcast_to(np.arange(160, dtype=np.uint8)[:, None, None], (160, 160, 3))

    zoomed = enlarge(ramp, np.random.default_rng(3), 0.7, cv2.INTER_LINEAR)

    assert zoomed.shape == (160, 160, 3)
    assert int(zoomed.max()) - int(zoomed.min()) < 155


def test_clear_tile_gives_way_to_a_drawn_scene_and_a_crack_never(tiles: list[np.ndarray]) -> None:
    how = Augmentation(drawn=1, hairline=0)
    crack, clear, *others = tiles

    scene = variations.replace_tile(clear, False, np.random.default_rng(0), others, how)

    assert scene.shape == clear.shape
    assert (scene != clear).mean() > 0.5
    assert variations.replace_tile(crack, True, np.random.default_rng(0), others, how) is crack


def test_tile_may_stay_as_it_is(tiles: list[np.ndarray]) -> None:
    how = Augmentation(drawn=0, hairline=0, surface=0)

    for tile, cracked in ((tiles[0], True), (tiles[1], False)):
        assert variations.replace_tile(tile, cracked, np.random.default_rng(0), tiles[2:], how) is tile


def test_hairline_lies_on_another_surface(tiles: list[np.ndarray]) -> None:
    how = Augmentation(hairline=1)
    crack, clear, *_ = tiles

    for seed in range(30):
        chance = np.random.default_rng(seed)
        made = variations.replace_tile(crack, True, chance, [clear], how)
        again = np.random.default_rng(seed)
        again.random()  # whether it gives way
        darker = variations.other_surface(clear, again, how).astype(int) - made

        assert np.percentile(darker, 99.5) >= 3
        assert np.median(np.abs(darker)) == 0


def test_cracked_and_clear_tiles_get_surfaces_alike(tiles: list[np.ndarray]) -> None:
    how = Augmentation(drawn=0, surface=1)
    clear = tiles[1]

    without = variations.other_surface(clear, np.random.default_rng(5), how)

    drawn, decided = np.random.default_rng(5), np.random.default_rng(5)
    assert (variations.other_surface(clear, drawn, how) == without).all()
    decided.random(2)  # whether it is drawn, whether it becomes another surface
    expected = variations.other_surface(clear, decided, how)
    made = variations.replace_tile(clear, False, np.random.default_rng(5), tiles[2:], how)
    np.testing.assert_array_equal(made, expected)


def test_replacing_changes_neither_tile_nor_companions(tiles: list[np.ndarray]) -> None:
    before = [tile.copy() for tile in tiles]
    how = Augmentation(hairline=0.5, recede=1, rough=1, relief=1, litter=1)

    for seed in range(20):
        for cracked in (True, False):
            variations.replace_tile(tiles[0], cracked, np.random.default_rng(seed), tiles[1:], how)

    for tile, copy in zip(tiles, before, strict=True):
        np.testing.assert_array_equal(tile, copy)
