"""The one way from decoded pixels to what the network sees.

Training and scoring share `prepare_tile`: two resizes that differ by a level or two (Pillow's and
TensorFlow's do, by 1.4 levels on average) are two different models.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

TILE_EDGE: Final = 160
"""Edge in pixels of the square that the network sees."""


RESIZE: Final = f"cv2-linear-{TILE_EDGE}"
"""Names what `prepare_tile` does; part of every model's card."""


def prepare_tile(
    pixels: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Resize one tile to the network's input with OpenCV's bilinear interpolation.

    Args:
        pixels: uint8 [height, width, 3] RGB; a view into a larger picture is fine.
        out: Where to write, uint8 [160, 160, 3] and contiguous, typically one row of a batch.

    Returns:
        uint8 [160, 160, 3] RGB: `out` where it was given. The colours are those of `pixels`,
        0 to 255; the network does its own scaling.
    """
    import cv2  # not above: the driver of a run wants the fingerprint alone, and OpenCV is 16 MB

    resized = cv2.resize(pixels, (TILE_EDGE, TILE_EDGE), dst=out, interpolation=cv2.INTER_LINEAR)
    if out is None:
        return np.asarray(resized, dtype=np.uint8)
    if resized is not out:  # OpenCV allocates instead of writing when `out` does not fit
        out[...] = resized
    return out


def preprocess_fingerprint(tile: int, overlap: int) -> str:
    """Name everything that decides which pixels the network sees.

    Two scores of the same file by the same model are comparable exactly when this string is equal;
    it is part of the key that decides whether an image has to be scored again.

    Args:
        tile: Edge in pixels of the windows cut from a large image.
        overlap: Pixels that neighbouring windows share.

    Returns:
        For example `"cv2-linear-160/tile=227/overlap=0"`.
    """
    return f"{RESIZE}/tile={tile}/overlap={overlap}"
