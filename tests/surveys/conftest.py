from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from crackmodel.surveys.tiling import TileGrid, cut_tiles

Pixels = npt.NDArray[np.uint8]
Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def concrete() -> Pixels:
    """A small picture, uint8 [60, 90, 3] RGB, with every corner another colour."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(90, 170, (60, 90, 3), dtype=np.uint8)
    pixels[:20, :30] = (250, 10, 10)
    pixels[:20, -30:] = (10, 250, 10)
    pixels[-20:, :30] = (10, 10, 250)
    pixels[-20:, -30:] = (240, 240, 10)
    return pixels


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encode an array or a Pillow image to the bytes of a file."""

    def encoded(picture: Any, kind: str, **options: Any) -> bytes:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    return encoded


def boxes_of(grid: TileGrid) -> npt.NDArray[np.int64]:
    """Return [rows * columns, 4]: x0, y0, x1, y1 of the tiles that are cut, row-major."""
    places = np.moveaxis(np.indices((grid.height, grid.width), dtype=np.int32), 0, -1)
    corners = [(tile[0, 0], tile[-1, -1]) for tile in cut_tiles(places, grid)]  # type: ignore[arg-type]
    return np.array([[first[1], first[0], last[1] + 1, last[0] + 1] for first, last in corners])
