"""Drawn patches of concrete, with and without a crack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Tile = npt.NDArray[np.uint8]


def draw_clear(rng: np.random.Generator, edge: int = 160) -> Tile:
    """Draw a patch of concrete: mottled grey with grain."""
    mottle = cv2.resize(rng.normal(0, 6, (12, 12, 1)).astype(np.float32), (edge, edge))
    grey = rng.uniform(140, 190) + mottle + rng.normal(0, 3, (edge, edge))
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def draw_crack(rng: np.random.Generator, edge: int = 160) -> Tile:
    """Draw a dark, jagged line from the left edge to the right one over a patch of concrete."""
    xs = np.linspace(-5, edge + 5, 12)
    ys = np.cumsum(rng.normal(0, edge / 16, 12)) + edge * rng.uniform(0.3, 0.7)
    line = np.stack([xs, ys], axis=1).round().astype(np.int32)
    picture = np.ascontiguousarray(draw_clear(rng, edge))
    cv2.polylines(picture, [line], isClosed=False, color=(35, 32, 30), thickness=int(rng.integers(3, 7)))
    return np.rot90(picture) if rng.random() < 0.5 else picture


def write_patches(root: Path, rng: np.random.Generator, number: int, edges: Sequence[int]) -> Path:
    """Write so many patches with a crack and as many without, PNG, of these edges in turns."""
    for folder, draw in (("cracked", draw_crack), ("plain", draw_clear)):
        (root / folder).mkdir(parents=True)
        for each in range(number):
            patch = draw(rng, edges[each % len(edges)])
            cv2.imwrite(str(root / folder / f"{each:02}.png"), patch)
    return root


def add_crack(tile: Tile, rng: np.random.Generator) -> Tile:
    """Draw a jagged line, a third as bright as the tile, from side to side over a picture of concrete."""
    edge = len(tile)
    xs = np.linspace(-5, edge + 5, 14)
    ys = np.cumsum(rng.normal(0, edge / 18, 14)) + edge * rng.uniform(0.3, 0.7)
    line = np.stack([xs, ys], axis=1).round().astype(np.int32)
    mask = np.zeros((edge, edge), np.float32)
    cv2.polylines(mask, [line], isClosed=False, color=1.0, thickness=int(rng.integers(3, 7)))
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None]
    return (tile * (1 - 0.66 * mask)).astype(np.uint8)
