"""Cut a photograph into the square windows that the classifier looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ImageRejected

MAX_TILES: Final = 50_000
"""Most tiles of one picture: ten times those of 250 megapixels at 227. A strip of 1,000,000 x 16 pixels, a
PNG of 15 kB, would make more."""

_MIN_TILE: Final = 32
_WHOLE_IMAGE_LIMIT: Final = 1.5
"""A picture of at most this many tiles in both directions is one close-up and is not cut."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where the tiles of one picture, `height` x `width` pixels, lie.

    Attributes:
        tile_size: Edge of a window in pixels.
        overlap: Pixels that neighbouring windows share; the last row and column may share more.
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

    def origins(self) -> tuple[list[int], list[int]]:
        """Return where the rows and the columns begin; not for a whole picture."""
        stride = self.tile_size - self.overlap
        down = [min(row * stride, self.height - self.tile_size) for row in range(self.rows)]
        across = [min(column * stride, self.width - self.tile_size) for column in range(self.columns)]
        return down, across


def tile_grid(height: int, width: int, tile: int = 227, overlap: int = 0) -> TileGrid:
    """Cover a picture with square windows that never leave it.

    A picture whose edges are both at most 1.5 tiles long is a close-up: one tile, the whole picture. Any
    other is cut into windows of `tile` pixels, or of its shorter edge where that is smaller (the overlap
    shrinks in proportion). Windows follow each other at `tile - overlap` pixels; the last of a row or
    column is shifted inward to end with the picture.

    Raises:
        ValueError: `tile` is below 32, `overlap` not from 0 to below `tile`, or the picture has no pixels.
        ImageRejected: `too_many_tiles` at stage `tile`: there would be more than `MAX_TILES`.
    """
    if tile < _MIN_TILE or not 0 <= overlap < tile or min(height, width) < 1:
        raise ValueError(f"tiles of {tile} pixels that overlap by {overlap} cannot cover {width}x{height}")
    edge = min(tile, height, width)
    if max(height, width) <= _WHOLE_IMAGE_LIMIT * tile:
        return TileGrid(height, width, edge, overlap=0, rows=1, columns=1, whole=True)
    shared = overlap * edge // tile
    stride = edge - shared
    rows, columns = (-(-(size - edge) // stride) + 1 for size in (height, width))
    if rows * columns > MAX_TILES:
        raise ImageRejected(
            "too_many_tiles",
            "tile",
            f"{width}x{height} pixels make {rows * columns:,} tiles of {edge}; the limit is {MAX_TILES:,}",
        )
    return TileGrid(height, width, edge, shared, rows, columns, whole=False)


def cut_tiles(pixels: npt.NDArray[np.uint8], grid: TileGrid) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the tiles of a picture, row-major.

    Args:
        pixels: uint8 [height, width, 3].
        grid: The windows, made for this size.

    Yields:
        Views into `pixels`, uint8 [tile_size, tile_size, 3], or the picture itself where `grid.whole`.
        Nothing is copied, and no box is kept.

    Raises:
        ValueError: `pixels` is of another size than the grid.
    """
    if pixels.shape[:2] != (grid.height, grid.width):
        raise ValueError(f"a grid for {grid.height}x{grid.width} pixels cannot cut {pixels.shape[:2]}")
    if grid.whole:
        yield pixels
        return
    down, across = grid.origins()
    for y0 in down:
        row = pixels[y0 : y0 + grid.tile_size]
        for x0 in across:
            yield row[:, x0 : x0 + grid.tile_size]
