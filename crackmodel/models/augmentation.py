"""Random variations of tiles, for fine-tuning: what another camera, distance, surface or day would have made.

Every function takes its random generator as an argument, seeded by (seed, epoch, sample): a sample's
variation does not depend on the batch, the order or the number of workers. `replace_tile` comes first: it may
put a drawn scene in a clear tile's place and a hairline crack in a cracked one's; `augment_tile` varies what
is then there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from crackmodel.models.negatives import clouds, draw_scene, litter
from crackmodel.surveys.drawing import wander

Tile = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]

_FAINTEST: Final = 0.008
"""Mean of a mask below which there may be no crack to see."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often each variation is applied, as probabilities.

    The last four are 0 unless asked for: docs/model.md tells what they win and what they cost.

    Attributes:
        plain: The tile is only turned.
        collage: The tile becomes a quarter of a 2 x 2 collage at half size: cracks seen from twice as
            far, and seams that are no cracks.
        zoom: A window of 70 to 100 % of the edge fills the tile.
        light: Brightness, contrast, gamma and white balance change.
        shadow: A straight, more or less soft shadow falls across the tile.
        blur: Gaussian blur, 0.3 to 1.2 pixels.
        noise: Gaussian noise, 1 to 10 levels.
        jpeg: JPEG at quality 30 to 95.
        drawn: A clear tile gives way to a drawn scene without concrete.
        hairline: A cracked tile gives way to a clear one with a thin, faint crack.
        litter: Lines, bolts, stains or marks lie on a tile that is neither.
        rough: The surface becomes rougher, grooved or worn, drawn scenes excepted.
    """

    plain: float = 0.3
    collage: float = 0.2
    zoom: float = 0.25
    light: float = 0.8
    shadow: float = 0.08
    blur: float = 0.25
    noise: float = 0.3
    jpeg: float = 0.3
    drawn: float = 0.0
    hairline: float = 0.0
    litter: float = 0.0
    rough: float = 0.0


def augment_tile(tile: Tile, rng: np.random.Generator, companions: Sequence[Tile], how: Augmentation) -> Tile:
    """Make one random variation of a tile that keeps its label.

    Args:
        tile: uint8 [edge, edge, 3] RGB.
        rng: The source of chance.
        companions: Three tiles of the same shape for a collage. A clear tile needs clear companions; a
            cracked one keeps its label in any company.
        how: The probabilities.

    Returns:
        A new uint8 [edge, edge, 3] RGB.
    """
    varied = turn(tile, rng)
    if rng.random() < how.plain:
        return varied
    if rng.random() < how.collage:
        varied = collage(varied, companions, rng)
    elif rng.random() < how.zoom:
        varied = zoom(varied, rng)
    if rng.random() < how.shadow:
        varied = cast_shadow(varied, rng)
    if rng.random() < how.light:
        varied = relight(varied, rng)
    if rng.random() < how.blur:
        varied = cv2.GaussianBlur(varied, (0, 0), rng.uniform(0.3, 1.2)).astype(np.uint8, copy=False)
    if rng.random() < how.noise:
        grain = rng.normal(0, rng.uniform(1, 10), varied.shape).astype(np.float32)
        varied = _levels(varied.astype(np.float32) + grain)
    if rng.random() < how.jpeg:
        varied = compress(varied, int(rng.integers(30, 96)))
    return np.ascontiguousarray(varied)


def replace_tile(
    tile: Tile, cracked: bool, rng: np.random.Generator, companions: Sequence[Tile], how: Augmentation
) -> Tile:
    """Put something harder of the same class in a tile's place, or leave it as it is.

    Args:
        tile: uint8 [edge, edge, 3] RGB.
        cracked: Its class.
        rng: The source of chance.
        companions: At least one clear tile of the same shape: what a hairline crack is drawn on.
        how: The probabilities.

    Returns:
        uint8 [edge, edge, 3] RGB of the same class; the tile itself where nothing was changed.
    """
    chance = rng.random(3)
    if not cracked and chance[0] < how.drawn:
        return draw_scene(rng, tile.shape[0])
    thin = cracked and chance[0] < how.hairline
    made = turn(companions[0], rng) if thin else tile
    if chance[1] < how.litter:
        made = litter(made, rng)
    if chance[2] < how.rough:
        made = roughen(made, rng)
    if thin:
        made = open_hairline(made, hairline_mask(tile, rng), rng)
    return made


def hairline_mask(tile: Tile, rng: np.random.Generator) -> Mask:
    """Return the course of a thin crack, float32 [edge, edge] from 0 to 1.

    Half of them are the tile's own crack, made thinner, seen from 1.2 to 2.4 times as far and continued
    by its mirror image; half, and those of which too little is left, are drawn, 0.5 to 2.5 pixels wide.
    """
    edge = tile.shape[0]
    mask = _own_course(tile, rng) if rng.random() < 0.5 else _drawn_course(edge, rng)
    while mask.mean() < _FAINTEST:  # A crack may grow out of the tile at once.
        mask = _drawn_course(edge, rng)
    return np.asarray(mask * np.clip(0.85 + 0.3 * clouds(rng, edge, 25), 0.25, 1), dtype=np.float32)


def _own_course(tile: Tile, rng: np.random.Generator) -> Mask:
    edge = tile.shape[0]
    grey = tile.mean(axis=2, dtype=np.float32)
    depth = np.clip(1 - grey / np.maximum(cv2.blur(grey, (61, 61)), 1), 0, None)
    deepest = max(float(np.percentile(depth, 99)), 0.1)
    depth = np.clip((depth / deepest - 0.3) / 0.6, 0, 1)
    if rng.random() < 0.4:
        depth = cv2.erode(depth, np.ones((3, 3), np.uint8))
    small = round(edge / rng.uniform(1.2, 2.4))
    depth = cv2.resize(depth, (small, small), interpolation=cv2.INTER_AREA)
    rest = edge - small
    top, left = rng.integers(0, rest + 1, 2).tolist()
    return np.pad(depth, ((top, rest - top), (left, rest - left)), mode="symmetric")


def _drawn_course(edge: int, rng: np.random.Generator) -> Mask:
    # Drawn at twice the size: OpenCV's thinnest line is a pixel wide.
    canvas = np.zeros((2 * edge, 2 * edge), np.uint8)
    heading = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.cos(heading), np.sin(heading)])
    x, y = (edge + rng.uniform(-0.3, 0.3, 2) * edge - 1.2 * edge * outward).tolist()
    length = rng.uniform(1.6, 3.0) * edge
    for course in wander(rng, (x, y), heading + float(rng.normal(0, 0.25)), length, 1.0):
        points = np.rint(course.points * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, 255, int(rng.integers(1, 6)), cv2.LINE_AA, 4)
    return cv2.resize(canvas, (edge, edge), interpolation=cv2.INTER_AREA) / np.float32(255)


def open_hairline(tile: Tile, mask: Mask, rng: np.random.Generator) -> Tile:
    """Darken a tile along a mask: the deepest place by 30 to 75 %."""
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 0.9))
    soft = soft / np.float32(max(float(soft.max()), 0.2))
    return _levels(tile * (1 - rng.uniform(0.3, 0.75) * soft[..., None]))


def roughen(tile: Tile, rng: np.random.Generator) -> Tile:
    """Give a surface grain of many scales, pits, pale aggregate or the grooves of a broom."""
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
    return _levels(tile * (1 + grain)[..., None])


def collage(tile: Tile, companions: Sequence[Tile], rng: np.random.Generator) -> Tile:
    """Put a tile and three companions into a 2 x 2 collage of the tile's own size, in random order.

    The companions take the tile's mean colour, but for a rest of 30 %: a collage of dark and bright
    squares would teach that dark areas with hard edges are never cracks.
    """
    edge = tile.shape[0]
    half = edge // 2
    made = np.empty_like(tile)
    corners = [(0, 0), (0, edge - half), (edge - half, 0), (edge - half, edge - half)]
    rng.shuffle(corners)
    for (top, left), piece in zip(corners, [tile, *companions], strict=True):
        small = cv2.resize(turn(piece, rng), (half, half), interpolation=cv2.INTER_LINEAR)
        towards = 0.7 * (tile.mean(axis=(0, 1)) - piece.mean(axis=(0, 1)))
        made[top : top + half, left : left + half] = _levels(small + towards)
    return made


def zoom(tile: Tile, rng: np.random.Generator) -> Tile:
    """Enlarge a random window of 70 to 100 % of the edge to the whole tile."""
    edge = tile.shape[0]
    window = round(edge * rng.uniform(0.7, 1.0))
    top, left = rng.integers(0, edge - window + 1, 2)
    cut = tile[top : top + window, left : left + window]
    return cv2.resize(cut, (edge, edge), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def turn(tile: Tile, rng: np.random.Generator) -> Tile:
    """Turn by a random multiple of 90 degrees, mirrored or not."""
    turned = np.rot90(tile, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def relight(tile: Tile, rng: np.random.Generator) -> Tile:
    """Change contrast, brightness, gamma and white balance."""
    pixels = tile.astype(np.float32)
    mean = pixels.mean()
    pixels = (pixels - mean) * rng.uniform(0.45, 1.3) + mean * rng.uniform(0.6, 1.35)
    pixels *= rng.uniform(0.92, 1.08, 3).astype(np.float32)
    gamma = rng.uniform(0.75, 1.33)
    return _levels(255 * (np.clip(pixels, 0, 255) / 255) ** gamma)


def cast_shadow(tile: Tile, rng: np.random.Generator) -> Tile:
    """Darken one side of a random straight line by 15 to 60 %, with an edge of 1 to 30 pixels."""
    edge = tile.shape[0]
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:edge, 0:edge].astype(np.float32) - edge / 2
    distance = xs * np.cos(angle) + ys * np.sin(angle) - rng.uniform(-0.35, 0.35) * edge
    shade = 1 / (1 + np.exp(-np.clip(distance / rng.uniform(0.3, 8), -30, 30)))
    return _levels(tile * (1 - rng.uniform(0.15, 0.6) * shade)[..., None])


def compress(tile: Tile, quality: int) -> Tile:
    """Send the tile through a JPEG of the given quality (1 to 100)."""
    _, encoded = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)


def _levels(pixels: npt.NDArray[np.floating]) -> Tile:
    levels: Tile = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return levels
