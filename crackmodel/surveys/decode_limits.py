"""Limits of what is decoded; apart from the decoder, so that a driver loads no OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What is refused before any pixel is decoded.

    Attributes:
        max_bytes: Largest file.
        max_pixels: Most pixels that the header may announce.
        min_edge: Shortest edge in pixels that can be classified.
    """

    max_bytes: int = 512 * _MEBIBYTE
    max_pixels: int = 250_000_000
    min_edge: int = 16


DEFAULT_LIMITS: Final = DecodeLimits()
