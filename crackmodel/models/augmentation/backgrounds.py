"""Drawn scenes without concrete, such as vegetation, gravel, roofs and sky.

Not pictures of anything; textures, colours and edges that no close-up of concrete has. In fine-tuning they
stand among the clear tiles, so that "dark, thin and rough" alone does not become a crack. Everything is a
function of the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]
Scene = Callable[[np.random.Generator, int], Field]

_SHIFT: Final = 4
"""Fractional bits of the coordinates that OpenCV draws with."""


def draw_scene(rng: np.random.Generator, edge: int) -> Pixels:
    """Draw one random scene without concrete, or two side by side.

    Args:
        rng: Source of all randomness.
        edge: Pixels of the square's side, at least 32.

    Returns:
        uint8 [edge, edge, 3] RGB.
    """
    scene = _any_scene(rng, edge)
    if rng.random() < 0.3:
        side = half_plane(rng, edge, float(rng.uniform(0.3, 2.0)))[..., None]
        scene = scene * side + _any_scene(rng, edge) * (1 - side)
    if rng.random() < 0.25:
        side = half_plane(rng, edge, float(rng.uniform(0.5, 6.0)))[..., None]
        scene = scene * (1 - rng.uniform(0.3, 0.75) * side)
    pixels = np.clip(scene, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        pixels = litter(pixels, rng)
    if rng.random() < 0.4:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.5)).astype(np.uint8, copy=False)
    return np.ascontiguousarray(pixels)


def _any_scene(rng: np.random.Generator, edge: int) -> Field:
    return SCENES[int(rng.integers(len(SCENES)))](rng, edge)


def clouds(rng: np.random.Generator, edge: int, cell: float, stretch: float = 1.0) -> Field:
    """Return smooth noise of about unit strength, [edge, edge]: blobs `cell` wide, `stretch` as high."""
    rows, columns = int(edge / (cell * stretch)) + 2, int(edge / cell) + 2
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (edge, edge), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def half_plane(rng: np.random.Generator, edge: int, softness: float) -> Field:
    """Return a ramp from 0 to 1 over a random straight edge, `softness` pixels wide."""
    return ramp(from_line(rng, edge), softness).astype(np.float32)


def from_line(rng: np.random.Generator, edge: int) -> npt.NDArray[np.float64]:
    """Return every pixel's signed distance from a random straight line, [edge, edge]."""
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:edge, 0:edge].astype(np.float32) - edge / 2
    distance: npt.NDArray[np.float64] = xs * np.cos(angle) + ys * np.sin(angle)
    return distance - rng.uniform(-0.35, 0.35) * edge


def ramp(distance: npt.NDArray[np.float64], softness: float) -> npt.NDArray[np.float64]:
    """Turn distances from a line into a share from 0 to 1."""
    return np.asarray(1 / (1 + np.exp(-np.clip(distance / softness, -30, 30))), np.float64)


def turned(field: npt.NDArray[Any], angle: float, scale: float = 1.0) -> npt.NDArray[Any]:
    """Turn a square about its middle by degrees, continued by mirrors."""
    edge = field.shape[0]
    turn = cv2.getRotationMatrix2D((edge / 2, edge / 2), angle, scale)
    return cv2.warpAffine(field, turn, (edge, edge), borderMode=cv2.BORDER_REFLECT)


def litter(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Draw lines, bolts, stains or marks that are no cracks.

    Args:
        pixels: uint8 [edge, edge, 3] RGB; not changed.
        rng: Source of all randomness.

    Returns:
        A new uint8 [edge, edge, 3] RGB.
    """
    edge = pixels.shape[0]
    amount = np.zeros((edge, edge), np.uint8)
    kind = int(rng.integers(5))
    if kind == 0:
        for _ in range(rng.integers(1, 4)):
            _line(rng, amount, int(rng.integers(1, 7)))
    elif kind == 1:
        _board_joints(rng, amount)
    elif kind == 2:
        for _ in range(rng.integers(1, 8)):
            centre, radius = rng.integers(0, edge, 2).tolist(), int(rng.integers(2, edge // 8))
            cv2.circle(amount, centre, radius, 255, int(rng.choice([-1, 2])), cv2.LINE_AA)
    elif kind == 3:
        stain = clouds(rng, edge, rng.uniform(0.15, 0.6) * edge, rng.uniform(1, 4))
        amount[:] = np.clip(255 * np.tanh(np.clip(stain - 0.3, 0, None) * rng.uniform(1, 8)), 0, 255)
    else:
        text = "".join(rng.choice(list("0123456789ABCDEFGHKLMNPRSTXm+-/"), 5))
        place = (int(rng.integers(-20, edge // 2)), int(rng.integers(edge // 4, edge)))
        size, stroke = rng.uniform(0.5, 2.5), int(rng.integers(1, 5))
        cv2.putText(amount, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, stroke, cv2.LINE_AA)
    soft = cv2.GaussianBlur(amount, (0, 0), rng.uniform(0.4, 2.5)).astype(np.float32)[..., None] / 255
    soft *= rng.uniform(0.15, 0.9)
    tone = pixels.mean(axis=(0, 1)) * (rng.uniform(0.1, 0.8) if rng.random() < 0.75 else 1.5) + rng.normal(
        0, 12, 3
    )
    mixed: Pixels = np.clip(pixels * (1 - soft) + tone * soft, 0, 255).astype(np.uint8)
    return mixed


def _line(rng: np.random.Generator, mask: Pixels, thickness: int) -> None:
    """Draw a straight line across the whole mask."""
    edge = mask.shape[0]
    middle, angle = rng.uniform(0.1, 0.9, 2) * edge, rng.uniform(0, np.pi)
    reach = 1.5 * edge * np.array([np.cos(angle), np.sin(angle)])
    ends = np.rint(np.stack([middle - reach, middle + reach]) * 2**_SHIFT).astype(int).tolist()
    cv2.line(mask, ends[0], ends[1], 255, thickness, cv2.LINE_AA, _SHIFT)


def _board_joints(rng: np.random.Generator, mask: Pixels) -> None:
    """Draw parallel joints, and sometimes ones that cross them at right angles."""
    edge = mask.shape[0]
    pitch, thickness = rng.uniform(0.2, 0.8) * edge, int(rng.integers(1, 5))
    for at in np.arange(rng.uniform(0, pitch), edge, pitch).astype(int).tolist():
        cv2.line(mask, (at, 0), (at, edge), 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.5:
        at = int(rng.integers(edge))
        cv2.line(mask, (0, at), (edge, at), 255, thickness, cv2.LINE_AA)
    mask[:] = turned(mask, float(rng.choice([0, 90, rng.uniform(0, 180)])), 1.5)


def _colour(rng: np.random.Generator, *, green: float = 0.3) -> Field:
    """Return a random colour, float32 [3]: of leaves with probability `green`."""
    luck = rng.random()
    level = rng.uniform(30, 220)
    if luck < green:
        lean = (rng.uniform(0.6, 1.05), 1.0, rng.uniform(0.3, 0.75))
        level = rng.uniform(30, 170)
    elif luck < green + 0.35:
        lean = (1.0, rng.uniform(0.75, 1.0), rng.uniform(0.5, 1.0))
    elif luck < green + 0.55:
        lean = tuple(rng.uniform(0.9, 1.1, 3).tolist())
    else:
        lean = tuple(rng.uniform(0.3, 1.1, 3).tolist())
    return np.asarray(lean, dtype=np.float32) * np.float32(level)


def _noise(rng: np.random.Generator, edge: int) -> Field:
    """Noise of all scales: ground, rubble, distant trees."""
    slope, stretch = rng.uniform(-0.3, 1.2), rng.choice([1.0, rng.uniform(1.5, 6)])
    fields = [(cell**slope) * clouds(rng, edge, cell, stretch) for cell in (1.5, 3.0, 6.0, 12.0, 30.0, 70.0)]
    rough = np.sum(fields, axis=0)
    rough /= max(float(rough.std()), 1e-6)
    if rng.random() < 0.4:
        rough = np.abs(rough) * rng.choice([-1, 1]) * 1.4
    one, other = _colour(rng, green=0.45), _colour(rng, green=0.45)
    share = np.clip(0.5 + 0.6 * clouds(rng, edge, rng.uniform(3, 60)), 0, 1)[..., None]
    base = one * share + other * (1 - share)
    return np.asarray(base * (1 + rng.uniform(0.06, 0.6) * rough[..., None]), dtype=np.float32)


def _strokes(rng: np.random.Generator, edge: int) -> Field:
    """Thousands of short strokes, light over dark: grass, foliage, twigs, straw."""
    canvas = np.empty((edge, edge, 3), np.float32)
    tone, around = _colour(rng, green=0.7), rng.uniform(0, np.pi)
    canvas[:] = tone * rng.uniform(0.1, 0.6)
    count, spread = int(rng.integers(80, 900)), rng.choice([0.3, 3.0])
    length, thickness = rng.uniform(4, 40), int(rng.integers(1, 5))
    starts = rng.uniform(-10, edge + 10, (count, 2))
    angles = around + rng.normal(0, spread, count)
    reach = (
        rng.uniform(0.3, 1.0, count)[:, None] * length * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    )
    bend = starts + reach / 2 + rng.normal(0, 0.12 * length, (count, 2))
    courses = np.rint(np.stack([starts, bend, starts + reach], axis=1) * 2**_SHIFT).astype(np.int32)
    shades = np.linspace(0.4, 1.3, count) * rng.uniform(0.6, 1.3, count)
    for course, shade in zip(courses, shades, strict=True):
        colour = (tone * shade + rng.normal(0, 8, 3)).tolist()
        cv2.polylines(canvas, [course], False, colour, thickness, cv2.LINE_8, _SHIFT)
    return canvas * (1 + 0.25 * clouds(rng, edge, 35))[..., None]


def _leaves(rng: np.random.Generator, edge: int) -> Field:
    """Blobs of one kind, later ones over earlier: leaves, bushes, pebbles."""
    canvas = np.empty((edge, edge, 3), np.float32)
    tone = _colour(rng, green=0.6)
    canvas[:] = tone * rng.uniform(0.05, 0.5)
    size, slim = rng.uniform(2, 14), rng.uniform(0.3, 1.0)
    count = min(int(1.5 * edge**2 / size**2), 1200)
    for index, (x, y) in enumerate(rng.uniform(0, edge, (count, 2)).tolist()):
        axes = (int(size * 16 * rng.uniform(0.5, 1.2)), int(size * 16 * slim * rng.uniform(0.5, 1.2)))
        colour = (tone * rng.uniform(0.4, 1.3) * (0.5 + 0.7 * index / count) + rng.normal(0, 8, 3)).tolist()
        cv2.ellipse(
            canvas, (int(x * 16), int(y * 16)), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_8, 4
        )
    return canvas


def _gravel(rng: np.random.Generator, edge: int) -> Field:
    """Stones with dark gaps: cells around random points."""
    size = rng.uniform(4, 36)
    seeds = np.full((edge, edge), 255, np.uint8)
    ys, xs = rng.integers(0, edge, (2, max(int(edge**2 / size**2), 4)))
    seeds[ys, xs] = 0
    far, owner = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    kinds = np.clip(rng.normal(1, rng.uniform(0.05, 0.35), int(owner.max()) + 1), 0.2, 2)
    gap = np.clip(1.15 - rng.uniform(0.3, 1.0) * (far / size) ** 2, 0.15, 1.2)
    shade = kinds[owner] * gap * (1 + 0.08 * clouds(rng, edge, 2))
    return np.asarray(_colour(rng, green=0.1) * shade[..., None], dtype=np.float32)


def _bricks(rng: np.random.Generator, edge: int) -> Field:
    """Rows of bricks, slabs or shingles at any angle."""
    high = rng.uniform(8, 60)
    wide = high * rng.uniform(1, 4)
    joint, angle = rng.uniform(0.8, 5), rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    ys, xs = np.mgrid[0:edge, 0:edge].astype(np.float32)
    down, across = (
        xs * np.sin(angle) + ys * np.cos(angle) + 500,
        xs * np.cos(angle) - ys * np.sin(angle) + 500,
    )
    row = np.floor(down / high)
    across += row * wide * rng.choice([0, 0.5])
    column = np.floor(across / wide)
    inside = np.minimum(
        np.minimum(down % high, high - down % high), np.minimum(across % wide, wide - across % wide)
    )
    shades = rng.normal(1, rng.uniform(0, 0.25), 997)[((row * 31 + column * 7) % 997).astype(int)]
    body = _colour(rng) * shades[..., None] * (1 + rng.uniform(0, 0.15) * clouds(rng, edge, 2))[..., None]
    seam = np.clip((inside - joint / 2) + 0.5, 0, 1)[..., None]
    return np.asarray(body * seam + _colour(rng) * rng.uniform(0.2, 1) * (1 - seam), dtype=np.float32)


def _grain(rng: np.random.Generator, edge: int) -> Field:
    """Long fibres and boards: wood, corrugated sheets, brushed metal, tyre tracks."""
    fibre = clouds(rng, edge, rng.uniform(1.5, 8), rng.uniform(8, 40))
    fibre += rng.uniform(0, 2) * np.sin(np.arange(edge, dtype=np.float32) * rng.uniform(0.05, 0.8))[None, :]
    fibre = turned(fibre, float(rng.uniform(0, 180)), 1.5)
    return np.asarray(
        _colour(rng, green=0.1) * (1 + rng.uniform(0.05, 0.3) * fibre[..., None]), dtype=np.float32
    )


def _sheet(rng: np.random.Generator, edge: int) -> Field:
    """Smooth surfaces, some with wires: sky, water, painted roofs."""
    ys, xs = np.mgrid[0:edge, 0:edge].astype(np.float32) / edge - 0.5
    slope = xs * rng.uniform(-0.4, 0.4) + ys * rng.uniform(-0.4, 0.4)
    grain = rng.uniform(0, 0.05) * clouds(rng, edge, rng.uniform(1, 30))
    sheet = _colour(rng, green=0.15) * (1 + slope + grain)[..., None]
    for _ in range(rng.integers(0, 4)):
        part = np.zeros((edge, edge), np.uint8)
        _line(rng, part, int(rng.integers(1, 24)))
        share = part[..., None] / np.float32(255)
        sheet = sheet * (1 - share) + _colour(rng) * rng.uniform(0.2, 1.1) * share
    return np.asarray(sheet, dtype=np.float32)


SCENES: Final[tuple[Scene, ...]] = (_noise, _noise, _strokes, _leaves, _gravel, _bricks, _grain, _sheet)
"""What `draw_scene` chooses from, each float32 [edge, edge, 3], alike often; noise counts twice."""
