from __future__ import annotations

import csv
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crackmodel.errors import ImageRejected
from crackmodel.reports.schema import REJECT_CODES
from crackmodel.surveys.tiling import MAX_TILES, TileGrid, cut_tiles, tile_grid
from tests.surveys.conftest import boxes_of


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    tile = draw(st.integers(32, 120))
    overlap = draw(st.integers(0, tile - 1))
    edges = st.integers(1, 250)  # more of them at a stride of one pixel would be too many tiles
    return tile_grid(draw(edges), draw(edges), tile, overlap)


@settings(deadline=None)
@given(grids())
def test_tiles_cover_every_pixel_and_never_leave_the_picture(grid: TileGrid) -> None:
    seen = np.zeros((grid.height, grid.width), dtype=bool)
    for x0, y0, x1, y1 in boxes_of(grid):
        assert 0 <= x0 < x1 <= grid.width
        assert 0 <= y0 < y1 <= grid.height
        seen[y0:y1, x0:x1] = True
    assert seen.all()


@settings(deadline=None)
@given(grids())
def test_tiles_are_squares_of_one_size_unless_the_tile_is_the_picture(grid: TileGrid) -> None:
    boxes = boxes_of(grid)
    assert boxes.shape == (grid.rows * grid.columns, 4) == (len(grid), 4)
    if grid.whole:
        assert boxes.tolist() == [[0, 0, grid.width, grid.height]]
        assert (grid.rows, grid.columns, grid.overlap) == (1, 1, 0)
    else:
        assert (boxes[:, 2:] - boxes[:, :2] == grid.tile_size).all()


@settings(deadline=None)
@given(grids())
def test_tiles_are_row_major_with_one_stride_and_an_inward_last_one(grid: TileGrid) -> None:
    if grid.whole:
        return
    x0 = boxes_of(grid)[:, 0].reshape(grid.rows, grid.columns)
    y0 = boxes_of(grid)[:, 1].reshape(grid.rows, grid.columns)
    assert (x0 == x0[0]).all()
    assert (y0 == y0[:, :1]).all()
    for origins, size in ((x0[0], grid.width), (y0[:, 0], grid.height)):
        steps = np.diff(origins)
        assert (steps[:-1] == grid.tile_size - grid.overlap).all()
        assert (steps > 0).all()
        assert (steps <= grid.tile_size - grid.overlap).all()
        assert origins[-1] == size - grid.tile_size


@pytest.mark.parametrize(("height", "width"), [(227, 227), (256, 256), (340, 340), (100, 340), (1, 1)])
def test_a_close_up_is_one_whole_tile(height: int, width: int) -> None:
    grid = tile_grid(height, width)
    assert grid.whole
    assert len(grid) == 1
    assert grid.tile_size == min(227, height, width)


def test_a_picture_just_above_one_and_a_half_tiles_is_cut() -> None:
    grid = tile_grid(341, 227)
    assert not grid.whole
    assert boxes_of(grid).tolist() == [[0, 0, 227, 227], [0, 114, 227, 341]]


def test_a_twelve_megapixel_photograph_has_14_rows_of_18() -> None:
    # 4000 / 227 = 17.6 and 3000 / 227 = 13.2, each rounded up; the last start at 4000 - 227 and 3000 - 227.
    grid = tile_grid(3000, 4000)
    assert (grid.rows, grid.columns) == (14, 18)
    assert boxes_of(grid)[-1].tolist() == [3773, 2773, 4000, 3000]
    assert boxes_of(grid)[16].tolist() == [3632, 0, 3859, 227]


def test_overlap_shortens_the_stride() -> None:
    grid = tile_grid(100, 400, tile=100, overlap=20)
    assert boxes_of(grid)[:, 0].tolist() == [0, 80, 160, 240, 300]


def test_a_narrow_strip_is_cut_by_its_shorter_edge_with_the_overlap_in_proportion() -> None:
    grid = tile_grid(50, 400, tile=100, overlap=20)
    assert (grid.tile_size, grid.overlap) == (50, 10)
    assert boxes_of(grid)[:3, 0].tolist() == [0, 40, 80]


@pytest.mark.parametrize(("tile", "overlap"), [(31, 0), (0, 0), (227, -1), (227, 227), (227, 300)])
def test_senseless_tiles_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot cover"):
        tile_grid(1000, 1000, tile, overlap)


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [(16, 1_000_000, 227, 0), (1_000_000, 16, 227, 0), (1600, 1600, 32, 31), (2**31, 2**31, 32, 0)],
)
def test_a_tile_bomb_is_rejected_by_its_size_alone(height: int, width: int, tile: int, overlap: int) -> None:
    tracemalloc.start()
    with pytest.raises(ImageRejected) as caught:
        tile_grid(height, width, tile, overlap)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (caught.value.code, caught.value.stage) == ("too_many_tiles", "tile")
    assert caught.value.code in REJECT_CODES
    assert f"{width}x{height}" in caught.value.detail
    assert peak < 100_000


def test_as_many_tiles_as_the_limit_are_cut() -> None:
    assert len(tile_grid(200 * 40, 250 * 40, tile=40)) == MAX_TILES
    with pytest.raises(ImageRejected):
        tile_grid(200 * 40 + 1, 250 * 40, tile=40)


def test_the_largest_photograph_is_far_from_the_limit() -> None:
    # 16,384 x 15,258: DecodeLimits allows 250 million pixels.
    assert len(tile_grid(15_258, 16_384)) < MAX_TILES / 5


def test_cutting_keeps_no_boxes() -> None:
    pixels = np.zeros((32 * 200, 32 * 250, 1), np.uint8)
    grid = tile_grid(*pixels.shape[:2], tile=32)
    tracemalloc.start()
    first = next(cut_tiles(pixels, grid))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first.shape == (32, 32, 1)
    assert peak < 100_000


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="100x0"):
        tile_grid(0, 100)


def test_cut_tiles_are_views() -> None:
    pixels = np.zeros((300, 500, 3), np.uint8)
    grid = tile_grid(300, 500, tile=100)
    tiles = list(cut_tiles(pixels, grid))
    assert len(tiles) == len(grid)
    assert all(np.shares_memory(tile, pixels) for tile in tiles)


def test_a_grid_cuts_only_pictures_of_its_size() -> None:
    with pytest.raises(ValueError, match="cannot cut"):
        list(cut_tiles(np.zeros((300, 500, 3), np.uint8), tile_grid(500, 300)))


def test_the_grid_of_a_mosaic_is_the_grid_it_was_pasted_on(shared_data: Path) -> None:
    cells: dict[str, list[list[int]]] = defaultdict(list)
    with (shared_data / "mosaics" / "truth_tiles.csv").open() as lines:
        for line in csv.DictReader(lines):
            cells[line["image"]].append([int(line[edge]) for edge in ("x0", "y0", "x1", "y1")])
    for name, truth in cells.items():
        with Image.open(shared_data / "mosaics" / name) as image:
            width, height = image.size
        edge = truth[0][2]
        assert boxes_of(tile_grid(height, width, tile=edge)).tolist() == truth, name
