from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

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
