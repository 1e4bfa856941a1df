from __future__ import annotations

import numpy as np
import pytest

from crackmodel.models.augmentation.hairlines import hairline_course, open_hairline
from tests.models.drawings import draw_clear, draw_crack

BLANK = np.full((160, 160, 3), 150, np.uint8)


@pytest.mark.parametrize("cracked", [True, False])
def test_course_is_thin_and_always_there(cracked: bool) -> None:
    tile = draw_crack(np.random.default_rng(4)) if cracked else BLANK

    for seed in range(40):
        course = hairline_course(tile, np.random.default_rng(seed))

        assert course.shape == (160, 160)
        assert course.dtype == np.float32
        assert 0 <= course.min() <= course.max() <= 1
        assert course.max() > 0.15
        assert 0.0005 < np.mean(course > 0.1) < 0.2


def test_course_follows_the_tiles_own_crack_half_the_time() -> None:
    """A horizontal bar thins to horizontal lines; drawn courses go anywhere."""
    bar = BLANK.copy()
    bar[70:90] = 30

    rows = [
        (hairline_course(bar, np.random.default_rng(seed)) > 0.05).mean(axis=1).max() for seed in range(60)
    ]

    horizontal = np.mean(np.array(rows) > 0.85)
    assert 0.2 < horizontal < 0.8


def test_crack_is_darker_than_the_surface_and_nothing_else_changes() -> None:
    course = np.zeros((160, 160), np.float32)
    course[:, 80] = 1

    for seed in range(30):
        made = open_hairline(BLANK, course, np.random.default_rng(seed)).astype(int)

        assert made[:, 80].mean() < 150 * 0.95
        np.testing.assert_array_equal(made[:, :70], 150)
        np.testing.assert_array_equal(made[:, 90:], 150)


def test_crack_on_a_rough_surface_is_deeper() -> None:
    course = np.zeros((160, 160), np.float32)
    course[:, 80] = 1
    rough = np.clip(np.random.default_rng(0).normal(150, 12, (160, 160, 1)), 0, 255)
    rough = np.repeat(rough, 3, axis=2).astype(np.uint8)

    def depth(tile: np.ndarray) -> float:
        chances = [np.random.default_rng(seed) for seed in range(20)]
        return float(
            np.mean([(tile - open_hairline(tile, course, rng).astype(int))[:, 80] for rng in chances])
        )

    assert depth(rough) > 2 * depth(BLANK)


def test_original_is_not_touched() -> None:
    tile = draw_clear(np.random.default_rng(1))
    before = tile.copy()

    open_hairline(tile, hairline_course(tile, np.random.default_rng(2)), np.random.default_rng(3))

    np.testing.assert_array_equal(tile, before)
