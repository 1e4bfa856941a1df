"""Cut a photograph into the square windows that the classifier looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crackmodel.errors import UsageError

__all__ = ["TileGrid", "cut_tiles", "tile_grid"]

_MIN_TILE = 32
_WHOLE_IMAGE_LIMIT = 1.5
"""A picture of at most this many tiles in both directions is one close-up and is not cut."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where the tiles of one picture lie.

    Attributes:
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        tile_size: Edge of a window in pixels.
        overlap: Pixels that neighbouring windows share; the last row and column may share more.
        rows: Windows from top to bottom.
        columns: Windows from left to right.
        whole: The one tile is the entire picture, whatever its shape.
    """

    height: int
    width: int
    tile_size: int
    overlap: int
    rows: int
    columns: int
    whole: bool

    def __len__(self) -> int:
        return self.rows * self.columns

    def boxes(self) -> npt.NDArray[np.int32]:
        """Return the pixel boxes of the tiles.

        Returns:
            int32 [rows * columns, 4]: x0, y0, x1, y1 of every tile, row-major; x1 and y1 are exclusive.
        """
        if self.whole:
            return np.array([[0, 0, self.width, self.height]], dtype=np.int32)
        y0, x0 = np.meshgrid(
            _origins(self.height, self.rows, self), _origins(self.width, self.columns, self), indexing="ij"
        )
        corners = [x0.ravel(), y0.ravel(), x0.ravel() + self.tile_size, y0.ravel() + self.tile_size]
        return np.stack(corners, axis=1).astype(np.int32)


def tile_grid(height: int, width: int, tile: int = 227, overlap: int = 0) -> TileGrid:
    """Lay square windows over a picture so that they cover every pixel and never leave it.

    A picture whose edges are both at most 1.5 tiles long is a close-up: one tile, the whole picture. Any
    other is cut into windows of `tile` pixels, or of its shorter edge where that is smaller (the overlap
    shrinks in proportion). Windows follow each other at `tile - overlap` pixels; the last of a row or
    column is shifted inward to end with the picture.

    Args:
        height: Height of the picture in pixels, at least 1.
        width: Width of the picture in pixels, at least 1.
        tile: Edge of a window in pixels, at least 32.
        overlap: Pixels that neighbouring windows share, from 0 to below `tile`.

    Raises:
        UsageError: `tile` or `overlap` is out of range, or the picture has no pixels.
    """
    _check(height, width, tile, overlap)
    edge = min(tile, height, width)
    if max(height, width) <= _WHOLE_IMAGE_LIMIT * tile:
        return TileGrid(height, width, edge, overlap=0, rows=1, columns=1, whole=True)
    shared = overlap * edge // tile
    stride = edge - shared
    rows, columns = (-(-(size - edge) // stride) + 1 for size in (height, width))
    return TileGrid(height, width, edge, shared, rows, columns, whole=False)


def cut_tiles(pixels: npt.NDArray[np.uint8], grid: TileGrid) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the tiles of a picture, row-major.

    Args:
        pixels: uint8 [height, width, 3], of the size that `grid` was made for.
        grid: The windows.

    Yields:
        Views into `pixels`, uint8 [tile_size, tile_size, 3], or the picture itself where `grid.whole`.
        Nothing is copied.

    Raises:
        ValueError: `pixels` is of another size than the grid.
    """
    if pixels.shape[:2] != (grid.height, grid.width):
        raise ValueError(f"a grid for {grid.height}x{grid.width} pixels cannot cut {pixels.shape[:2]}")
    for x0, y0, x1, y1 in grid.boxes().tolist():
        yield pixels[y0:y1, x0:x1]


def _origins(size: int, count: int, grid: TileGrid) -> npt.NDArray[np.int64]:
    regular = np.arange(count, dtype=np.int64) * (grid.tile_size - grid.overlap)
    return np.minimum(regular, size - grid.tile_size)


def _check(height: int, width: int, tile: int, overlap: int) -> None:
    if tile < _MIN_TILE:
        raise UsageError(f"A tile of {tile} pixels is too small.", f"Choose --tile {_MIN_TILE} or more.")
    if not 0 <= overlap < tile:
        raise UsageError(
            f"Tiles of {tile} pixels cannot overlap by {overlap}.",
            f"Choose --overlap from 0 to {tile - 1}.",
        )
    if height < 1 or width < 1:
        raise UsageError(
            f"A picture of {width}x{height} pixels has no tiles.", "Pass the decoded picture's size."
        )
