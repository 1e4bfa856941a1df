"""Random variations of tiles for fine-tuning.

Every function takes its random generator as an argument, seeded by (seed, epoch, sample): a sample's
variation does not depend on the batch, the order or the number of workers. `replace_tile` comes first: it
may put another surface or a drawn scene in a clear tile's place, and in a cracked one's a hairline crack on
another surface; `augment_tile` varies what is then there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from crackmodel.models.augmentation.backgrounds import draw_scene, from_line, litter, ramp
from crackmodel.models.augmentation.hairlines import hairline_course, open_hairline
from crackmodel.models.augmentation.surfaces import enlarge, levels, recede, relief, roughen

Tile = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often each variation is applied, as probabilities.

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
        hairline: A cracked tile gives way to another surface with a thin, faint crack.
        surface: A clear tile that is left becomes another surface.
        recede: The other surface is seen from another distance.
        rough: It has more grain, pits, pale aggregate or grooves.
        relief: It is lit from the side.
        litter: Lines, bolts, stains or marks lie on it.
    """

    plain: float = 0.3
    collage: float = 0.2
    zoom: float = 0.25
    light: float = 0.8
    shadow: float = 0.08
    blur: float = 0.25
    noise: float = 0.3
    jpeg: float = 0.3
    drawn: float = 0.33
    hairline: float = 0.4
    surface: float = 0.7
    recede: float = 0.5
    rough: float = 0.3
    relief: float = 0.4
    litter: float = 0.15


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
        varied = enlarge(varied, rng, 0.7, cv2.INTER_LINEAR)
    if rng.random() < how.shadow:
        varied = cast_shadow(varied, rng)
    if rng.random() < how.light:
        varied = relight(varied, rng)
    if rng.random() < how.blur:
        varied = cv2.GaussianBlur(varied, (0, 0), rng.uniform(0.3, 1.2)).astype(np.uint8, copy=False)
    if rng.random() < how.noise:
        grain = rng.normal(0, rng.uniform(1, 10), varied.shape).astype(np.float32)
        varied = levels(varied.astype(np.float32) + grain)
    if rng.random() < how.jpeg:
        varied = compress(varied, int(rng.integers(30, 96)))
    return np.ascontiguousarray(varied)


def replace_tile(
    tile: Tile, cracked: bool, rng: np.random.Generator, companions: Sequence[Tile], how: Augmentation
) -> Tile:
    """Replace a tile by a harder one of its class, sometimes.

    Args:
        tile: uint8 [edge, edge, 3] RGB.
        cracked: Its class.
        rng: The source of chance.
        companions: At least one clear tile of the same shape: what a hairline crack is drawn on.
        how: The probabilities.

    Returns:
        uint8 [edge, edge, 3] RGB of the same class; the tile itself where nothing was changed.
    """
    if cracked:
        if rng.random() >= how.hairline:
            return tile
        return open_hairline(other_surface(companions[0], rng, how), hairline_course(tile, rng), rng)
    if rng.random() < how.drawn:
        return draw_scene(rng, tile.shape[0])
    return other_surface(tile, rng, how) if rng.random() < how.surface else tile


def other_surface(tile: Tile, rng: np.random.Generator, how: Augmentation) -> Tile:
    """Make another surface of a clear tile."""
    made = turn(tile, rng)
    if rng.random() < how.recede:
        made = recede(made, rng)
    if rng.random() < how.rough:
        made = roughen(made, rng)
    if rng.random() < how.relief:
        made = relief(made, rng)
    return litter(made, rng) if rng.random() < how.litter else made


def collage(tile: Tile, companions: Sequence[Tile], rng: np.random.Generator) -> Tile:
    """Put four tiles into a 2 x 2 collage of one tile's size.

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
        made[top : top + half, left : left + half] = levels(small + towards)
    return made


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
    return levels(255 * (np.clip(pixels, 0, 255) / 255) ** gamma)


def cast_shadow(tile: Tile, rng: np.random.Generator) -> Tile:
    """Darken one side of a random straight line."""
    distance = from_line(rng, tile.shape[0])
    shade = ramp(distance, rng.uniform(0.3, 8))
    return levels(tile * (1 - rng.uniform(0.15, 0.6) * shade)[..., None])


def compress(tile: Tile, quality: int) -> Tile:
    """Compress the tile as a JPEG of a quality from 1 to 100."""
    _, encoded = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
