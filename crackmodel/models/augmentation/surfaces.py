"""Other surfaces made from clear tiles: distance, roughness, side light.

A training set shows the concrete of a few places. What differs elsewhere is mostly the scale of its grain and
the relief that a low sun shows: trowel marks, broom finish, pits, dents. None of it is a crack, and
cracked and clear tiles get it alike, so that it says nothing about the label. Everything is a function of the
generator that is passed in.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from crackmodel.models.augmentation.backgrounds import clouds, turned

Tile = npt.NDArray[np.uint8]


def recede(tile: Tile, rng: np.random.Generator) -> Tile:
    """Show a surface from another distance.

    It is up to 3 times as far, continued by mirrors, or up to twice as near.

    Args:
        tile: uint8 [edge, edge, 3] RGB, a clear surface.
        rng: The source of chance.

    Returns:
        A new tile of the same shape.
    """
    edge = tile.shape[0]
    if rng.random() < 0.4:
        return enlarge(tile, rng, 0.5, cv2.INTER_CUBIC)
    small = round(edge / rng.uniform(1.0, 3.0))
    shrunk = cv2.resize(tile, (small, small), interpolation=cv2.INTER_AREA)
    rest = edge - small
    top, left = rng.integers(0, rest + 1, 2).tolist()
    return np.pad(shrunk, ((top, rest - top), (left, rest - left), (0, 0)), mode="symmetric")


def relief(tile: Tile, rng: np.random.Generator) -> Tile:
    """Light a surface with bumps, dents and pits from one side.

    Args:
        tile: uint8 [edge, edge, 3] RGB.
        rng: The source of chance.

    Returns:
        A new tile of the same shape.
    """
    edge = tile.shape[0]
    stretch = 1.0 if rng.random() < 0.5 else float(rng.uniform(2, 6))
    height = np.zeros((edge, edge), np.float32)
    slope = rng.uniform(0.5, 1.6)
    for cell in (2.0, 4.0, 8.0, 16.0, 32.0):
        height += np.float32(rng.uniform(0.2, 1.0) * cell**slope) * clouds(rng, edge, cell, stretch)
    if stretch > 1:
        height = turned(height, float(rng.uniform(0, 180)))
    if rng.random() < 0.4:  # isolated bumps or dents in an even surface
        height = np.clip(height - np.float32(rng.uniform(0.5, 1.5)) * height.std(), 0, None) * np.float32(
            rng.choice([-1, 1])
        )
    down, across = np.gradient(height)
    angle = rng.uniform(0, 2 * np.pi)
    slopes = np.cos(angle) * across + np.sin(angle) * down
    shade = slopes / max(float(slopes.std()), 1e-6)
    if rng.random() < 0.5:  # few steep places
        shade = shade * np.abs(shade) ** rng.uniform(0.3, 1.2)
    if rng.random() < 0.6:  # here, and not there
        shade = shade * np.clip(clouds(rng, edge, rng.uniform(20, 90)) + rng.uniform(-0.5, 0.7), 0, 1)
    strength = np.exp(rng.uniform(np.log(0.01), np.log(0.12)))
    return levels(tile * np.clip(1 + strength * shade, 0.25, 1.6)[..., None])


def roughen(tile: Tile, rng: np.random.Generator) -> Tile:
    """Give a surface grain, pits, pale aggregate or broom grooves."""
    edge = tile.shape[0]
    grain = np.zeros((edge, edge), np.float32)
    for cell in (1.5, 3.0, 6.0, 15.0, 40.0):
        grain += rng.uniform(0, 0.06) * clouds(rng, edge, cell)
    if rng.random() < 0.4:
        spots = clouds(rng, edge, rng.uniform(2, 7))
        grain += rng.choice([-1, 1]) * rng.uniform(0.05, 0.4) * np.clip(spots - rng.uniform(0.6, 1.8), 0, 1)
    if rng.random() < 0.25:
        ys, xs = np.mgrid[0:edge, 0:edge].astype(np.float32)
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(3, 16)
        across = (xs * np.cos(angle) + ys * np.sin(angle)) / pitch + 0.15 * clouds(rng, edge, 30)
        grain += rng.uniform(0.02, 0.12) * np.sin(2 * np.pi * across)
    return levels(tile * (1 + grain)[..., None])


def enlarge(tile: Tile, rng: np.random.Generator, least: float, interpolation: int) -> Tile:
    """Enlarge a random window, of at least that share of the edge, to the tile's size."""
    edge = tile.shape[0]
    window = round(edge * rng.uniform(least, 1.0))
    top, left = rng.integers(0, edge - window + 1, 2)
    cut = tile[top : top + window, left : left + window]
    return np.asarray(cv2.resize(cut, (edge, edge), interpolation=interpolation), dtype=np.uint8)


def levels(pixels: npt.NDArray[np.floating]) -> Tile:
    """Round to levels from 0 to 255."""
    rounded: Tile = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return rounded
