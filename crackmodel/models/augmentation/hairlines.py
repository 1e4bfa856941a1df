"""Thin, faint cracks on clear surfaces, which training sets lack.

A hairline's course is the middle line of a real, wide crack, seen from further away, or a drawn one. Its
depth goes by the grain of the surface that it lies on: from hardly above it to unmistakable. Everything is
a function of the generator that is passed in.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from crackmodel.models.augmentation.backgrounds import clouds
from crackmodel.models.augmentation.surfaces import levels
from crackmodel.surveys.drawing import wander

Tile = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]

_SHORTEST: Final = 0.35
"""Least length of a course, in edges of the tile: less would not be called a crack."""

_CROSS: Final = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def hairline_course(tile: Tile, rng: np.random.Generator) -> Mask:
    """Return the course of a thin crack as a mask.

    Args:
        tile: uint8 [edge, edge, 3] RGB with a crack whose middle line may be taken.
        rng: The source of chance.

    Returns:
        The course, 0.5 to 3 pixels wide; of half of them the tile's own.
    """
    edge = tile.shape[0]
    course = _own_course(tile, rng) if rng.random() < 0.5 else None
    while course is None or course.sum() < _SHORTEST * edge:
        course = _drawn_course(edge, rng)
    fading = clouds(rng, edge, rng.uniform(15, 50))
    return np.asarray(course * np.clip(rng.uniform(0.6, 1.2) + 0.35 * fading, 0.1, 1), dtype=np.float32)


def _own_course(tile: Tile, rng: np.random.Generator) -> Mask:
    """Thin the tile's crack to its middle line, and shrink it."""
    edge = tile.shape[0]
    grey = tile.mean(axis=2, dtype=np.float32)
    depth = np.clip(1 - grey / np.maximum(cv2.blur(grey, (61, 61)), 1), 0, None)
    deepest = max(float(np.percentile(depth, 99)), 0.1)
    dark = (depth > 0.5 * deepest).astype(np.uint8) * 255
    dark = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    line = _middle_line(dark)
    scale = rng.uniform(1.0, 2.6)
    small = round(edge / scale)
    # Area interpolation thins a line as it shrinks it: its width is set anew below.
    line = cv2.resize(cv2.dilate(line, _CROSS), (small, small), interpolation=cv2.INTER_AREA)
    rest = edge - small
    top, left = rng.integers(0, rest + 1, 2).tolist()
    line = np.pad(line, ((top, rest - top), (left, rest - left)), mode="symmetric") / np.float32(255)
    return np.asarray(np.clip(line * rng.uniform(0.7, 2.0), 0, 1), dtype=np.float32)


def _middle_line(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Morphological skeleton: what each erosion loses to the following opening."""
    line = np.zeros_like(mask)
    for _ in range(20):
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _CROSS)
        line |= cv2.subtract(mask, opened)
        mask = cv2.erode(mask, _CROSS)
        if not mask.any():
            break
    return line


def _drawn_course(edge: int, rng: np.random.Generator) -> Mask:
    # Drawn at three times the size: OpenCV's thinnest line is a pixel wide.
    times = 3
    canvas = np.zeros((times * edge, times * edge), np.uint8)
    heading = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.cos(heading), np.sin(heading)])
    middle = times * edge * (0.5 + rng.uniform(-0.4, 0.4, 2))
    length = times * edge * (rng.uniform(0.4, 1.2) if rng.random() < 0.4 else rng.uniform(1.4, 2.2))
    x, y = (middle - rng.uniform(0.35, 0.65) * length * outward).tolist()
    thick = rng.uniform(1, 7)
    for course in wander(rng, (x, y), heading + float(rng.normal(0, 0.25)), length, 1.0):
        points = np.rint(course.points * 16).astype(np.int32)
        pieces = np.array_split(points, max(len(points) // 12, 1))
        for piece, following in zip(pieces, [*pieces[1:], pieces[-1][-1:]], strict=True):
            width = max(1, round(thick * rng.uniform(0.6, 1.4)))
            joined = np.concatenate([piece, following[:1]])
            cv2.polylines(canvas, [joined], False, 255, width, cv2.LINE_AA, 4)
    return cv2.resize(canvas, (edge, edge), interpolation=cv2.INTER_AREA) / np.float32(255)


def open_hairline(tile: Tile, course: Mask, rng: np.random.Generator) -> Tile:
    """Darken a tile along a course.

    Args:
        tile: uint8 [edge, edge, 3] RGB.
        course: From `hairline_course`.
        rng: The source of chance.

    Returns:
        A new tile; the crack is 2 to 12 times as deep as the surface's grain, within 10 and 75 %.
    """
    soft = _normalised(cv2.GaussianBlur(course, (0, 0), rng.uniform(0.3, 0.8)))
    grey = tile.mean(axis=2, dtype=np.float32)
    grain = float((grey - cv2.GaussianBlur(grey, (0, 0), 2.5)).std())
    times = np.exp(rng.uniform(np.log(2.0), np.log(12.0)))
    depth = np.clip(times * grain / max(float(grey.mean()), 1.0), 0.10, 0.75)
    hue = rng.uniform(0.9, 1.1, 3)
    made = tile * (1 - depth * soft[..., None] * hue)
    if rng.random() < 0.25:  # the light on one broken edge
        rim = np.clip(np.roll(soft, rng.integers(-2, 3, 2), axis=(0, 1)) - soft, 0, 1)
        made = made * (1 + 0.4 * depth * rim[..., None])
    return levels(made)


def _normalised(course: npt.NDArray[Any]) -> Mask:
    """Scale a blurred course back to a depth of about 1."""
    seen = course[course > 0.02]
    deepest = float(np.percentile(seen, 90)) if seen.size else 1.0
    return np.asarray(np.clip(course / max(deepest, 0.1), 0, 1.2), dtype=np.float32)
