"""Draw concrete, and cracks in it, with random numbers.

Not photographs and not training data: what a classifier of real close-ups (METU: cracks 5 to 25 pixels wide
in 227) calls cracked and clear, so that an example and a test need no download. Everything is a function of
the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

_CEMENT: Final = ((186, 182, 172), (172, 173, 172), (196, 190, 178), (164, 162, 156))
"""RGB of four kinds of hardened cement paste."""
_SUBPIXEL: Final = 4
"""Fractional bits of the coordinates that OpenCV draws with."""


@dataclass(frozen=True, slots=True)
class Crack:
    """The course of a crack.

    Attributes:
        points: float32 [n, 2], x and y in pixels.
        widths: float32 [n], opening across the course in pixels.
    """

    points: Field
    widths: Field


def draw_slab(rng: np.random.Generator, height: int, width: int, cement: int = 0) -> Pixels:
    """Draw a bare concrete surface in one of four colours, 0 to 3.

    Returns:
        uint8 [height, width, 3] RGB.
    """
    shade = _broad_clouds(rng, height, width, ((900, 8.0), (300, 5.0), (90, 4.0), (40, 2.5)))
    sand = rng.standard_normal((height, width), dtype=np.float32)
    shade += 2.6 * _clouds(rng, height, width, 11) + 19.5 * cv2.GaussianBlur(sand, (0, 0), 1.1)
    _add_pores(rng, shade)
    warmth = _broad_clouds(rng, height, width, ((400, 1.6),))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    tint = _CEMENT[cement % len(_CEMENT)]
    for channel, lean in ((0, warmth), (1, np.float32(0)), (2, -warmth)):
        pixels[..., channel] = np.clip(shade + lean + tint[channel], 0, 255)
    return pixels


def draw_joint(rng: np.random.Generator, pixels: Pixels, at: int) -> None:
    """Draw a horizontal formwork joint: two boards' slightly different shades, and the fin between them."""
    band = pixels[max(at - 90, 0) : at + 90]
    height, width = band.shape[:2]
    course = min(at, 90) + 2.0 * _wave(rng, width, 300)
    below = np.arange(height, dtype=np.float32)[:, None] - course[None, :]
    step = 4.0 * np.tanh(below / 12.0) * np.clip(1.5 - np.abs(below) / 60, 0, 1)
    fin = 9.0 * np.exp(-0.5 * np.square(below / 3.5)) * (0.7 + 0.3 * _wave(rng, width, 60))
    band[:] = np.clip(band + (step + fin)[..., None], 0, 255).astype(np.uint8)


def wander(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    length: float,
    width: float,
) -> list[Crack]:
    """Let a crack and its branches grow.

    The tip keeps to its heading but for jolts where it runs around the aggregate. The opening varies between
    half and one and a half times `width`, and tapers at the far end.

    Args:
        rng: Source of all randomness.
        start: x and y of the beginning.
        heading: Direction in radians, 0 to the right, clockwise as seen on the screen.
        length: Pixels along the course.
        width: Mean opening in pixels.

    Returns:
        The crack itself, then its branches, thinner and shorter.
    """
    crack = _grow(rng, start, heading, length, width)
    branches = []
    for place in rng.uniform(0.25, 0.75, rng.poisson(length / 900)):
        index = int(place * len(crack.points))
        turn = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
        x, y = crack.points[index].tolist()
        branches.append(_grow(rng, (x, y), turn, length * rng.uniform(0.12, 0.25), width * 0.55))
    return [crack, *branches]


def draw_crack(rng: np.random.Generator, pixels: Pixels, cracks: Sequence[Crack]) -> None:
    """Draw cracks into a surface: a dark opening with a darker core, and the light of broken edges."""
    height, width = pixels.shape[:2]
    opening = np.zeros((height, width), dtype=np.uint8)
    core = np.zeros_like(opening)
    for crack in cracks:
        rough = _roughness(rng, len(crack.points))
        _fill(opening, crack, rough)
        _fill(core, crack, rough * rng.uniform(0.45, 0.7))
    dark, deep = _soft(opening, 0.8), _soft(core, 1.0)
    lit = _soft(np.roll(opening, (3, 2), axis=(0, 1)), 1.0)
    broken = np.clip(0.5 + 0.8 * _clouds(rng, height, width, 30), 0, 1.3)
    rim = 42.0 * np.clip(lit - dark, 0, 1) * broken
    depth = np.clip(0.85 + 0.22 * _clouds(rng, height, width, 12), 0.4, 1.0)
    keep = (1 - 0.55 * dark) * (1 - 0.62 * deep * depth)
    # Light that comes back out of an opening is warm: red falls off least.
    for channel, fall in ((0, 0.94), (1, 1.0), (2, 1.06)):
        shown = (pixels[..., channel] + rim) * keep**fall
        pixels[..., channel] = np.clip(shown, 0, 255)


def _grow(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length: float, width: float
) -> Crack:
    """Walk straight from one jolt to the next, 10 to 45 pixels on; fine jitter lies over that."""
    stride = 3.0
    count = max(int(length / stride), 8)
    legs = rng.integers(3, 16, count)
    jolts = np.repeat(rng.normal(0, 0.5, count), legs)[:count]
    angles = heading + jolts + 0.28 * _wave(rng, count, 90) + 0.3 * rng.standard_normal(count)
    steps = stride * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.array(start, dtype=np.float32) + np.cumsum(steps, axis=0)
    opening = width * np.clip(1 + 0.26 * _wave(rng, count, 30) + 0.16 * _wave(rng, count, 7), 0.5, 1.5)
    taper = np.clip((count - np.arange(count)) / (0.25 * count), 0.3, 1.0)
    return Crack(points.astype(np.float32), (opening * taper).astype(np.float32))


def _roughness(rng: np.random.Generator, count: int) -> Field:
    """Return factors on the half width of both edges, float32 [2, count, 1]: each edge breaks on its own."""
    edges = [1 + 0.25 * _wave(rng, count, 4) + 0.08 * rng.standard_normal(count) for _ in range(2)]
    return np.clip(np.stack(edges), 0.3, 1.8).astype(np.float32)[..., None]


def _soft(mask: Pixels, sigma: float) -> Field:
    """Return a blurred mask, float32 from 0 to 1."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), dtype=np.float32) / np.float32(255)


def _fill(mask: Pixels, crack: Crack, rough: Field) -> None:
    """Fill the strip along a crack between its two rough edges."""
    along = np.gradient(crack.points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    half = crack.widths[:, None] / 2
    left, right = crack.points + across * half * rough[0], crack.points - across * half * rough[1]
    # One quadrilateral per step: a single polygon would cancel out where the course crosses itself.
    quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    for quad in np.rint(quads * 2**_SUBPIXEL).astype(np.int32):
        cv2.fillConvexPoly(mask, quad, 255, cv2.LINE_AA, _SUBPIXEL)


def _broad_clouds(
    rng: np.random.Generator, height: int, width: int, layers: Sequence[tuple[int, float]]
) -> Field:
    """Return summed noises of (cell, strength), float32 [height, width], made small and enlarged."""
    shrink = 8
    small = np.zeros((height // shrink + 2, width // shrink + 2), dtype=np.float32)
    for cell, strength in layers:
        small += strength * _clouds(rng, small.shape[0], small.shape[1], max(cell // shrink, 2))
    large = cv2.resize(small, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(large[:height, :width], dtype=np.float32)


def _clouds(rng: np.random.Generator, height: int, width: int, cell: int) -> Field:
    """Return smooth noise, float32 [height, width], of unit strength and features of `cell` pixels."""
    coarse = rng.standard_normal((height // cell + 3, width // cell + 3), dtype=np.float32)
    smooth = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    y, x = rng.integers(0, cell, 2)
    return np.asarray(smooth[y : y + height, x : x + width], dtype=np.float32)


def _wave(rng: np.random.Generator, count: int, cell: int) -> Field:
    """Return a smooth random course, float32 [count], of unit strength."""
    return np.asarray(_clouds(rng, 1, count, cell)[0], dtype=np.float32)


def _add_pores(rng: np.random.Generator, shade: Field) -> None:
    """Add the holes that air bubbles leave at the formwork, most a few pixels across."""
    holes = np.zeros(shade.shape, dtype=np.uint8)
    height, width = shade.shape
    for _ in range(rng.poisson(shade.size / 4500)):
        axes = min(1 + rng.exponential(0.9), 4.5) * rng.uniform(0.8, 1.25, 2)
        centre, axes = (
            np.rint(each * 2**_SUBPIXEL).astype(int).tolist()
            for each in (rng.uniform((0, 0), (width, height)), axes)
        )
        tone, turn = int(rng.integers(90, 230)), float(rng.uniform(0, 180))
        cv2.ellipse(holes, centre, axes, turn, 0, 360, tone, -1, cv2.LINE_AA, _SUBPIXEL)
    depth = 56 * _soft(holes, 0.8)
    shade -= depth
    shade += 0.25 * np.roll(depth, (1, 1), axis=(0, 1))
