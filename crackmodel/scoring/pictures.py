"""One decoded picture: cut it into tiles, run the model on them, and say what that means for the picture."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ImageRejected
from crackmodel.models.engines import Engine, KerasEngine, LiteRTEngine
from crackmodel.models.familiarity import Familiarity
from crackmodel.models.preprocessing import TILE_EDGE, prepare_tile
from crackmodel.surveys.tiles import TileGrid, cut_tiles, tile_grid

_TILES_PER_BATCH: Final = 32
"""Tiles prepared before the model runs. LiteRT is as fast on 1 as on 32, so this only bounds memory."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model as workers get it: the bytes, not a path of the driver's disk.

    `ood_threshold` and `familiarity` are None for a model that cannot tell what it was trained on.
    """

    reference: str
    sha256: str
    engine: str
    temperature: float
    threshold: float
    content: bytes = field(compare=False, repr=False)
    ood_threshold: float | None = None
    familiarity: Familiarity | None = field(default=None, compare=False, repr=False)


@lru_cache(maxsize=2)
def cached_engine(model: ModelFile) -> Engine:
    """Load a model once per process; `content` takes no part in the key, the SHA-256 does.

    Raises:
        ModelError: The engine cannot be built.
    """
    if model.engine == "tensorflow":
        with tempfile.TemporaryDirectory(prefix="crackmodel-") as folder:
            path = Path(folder) / "model.keras"
            path.write_bytes(model.content)
            return KerasEngine(path, temperature=model.temperature)
    return LiteRTEngine(model.content, threads=1, temperature=model.temperature, name=model.engine)


OnFeatures = Callable[[npt.NDArray[np.float32]], None]


def predict_tiles(
    pixels: npt.NDArray[np.uint8], grid: TileGrid, engine: Engine, on_features: OnFeatures | None = None
) -> npt.NDArray[np.float32]:
    """Run the model on every tile of a picture.

    Args:
        pixels: uint8 [height, width, 3] RGB.
        grid: The picture's tile grid.
        engine: What runs the model.
        on_features: Given the features float32 [n, 1280] of the tiles, a batch at a time in the same order,
            by models that return them.

    Returns:
        float32 [rows * columns] probabilities of a crack, row-major.
    """
    count = grid.rows * grid.columns
    probabilities = np.empty(count, dtype=np.float32)
    batch = np.empty((min(count, _TILES_PER_BATCH), TILE_EDGE, TILE_EDGE, 3), dtype=np.uint8)
    filled, done = 0, 0
    for tile in cut_tiles(pixels, grid):
        prepare_tile(tile, out=batch[filled])
        filled += 1
        if filled == len(batch) or done + filled == count:
            if on_features is None:
                probabilities[done : done + filled] = engine.predict(batch[:filled])
            else:
                scored = engine.score(batch[:filled])
                probabilities[done : done + filled] = scored.probabilities
                if scored.features is not None:
                    on_features(scored.features)
            done, filled = done + filled, 0
    return probabilities


def score_picture(
    pixels: npt.NDArray[np.uint8],
    model: ModelFile,
    engine: Engine,
    *,
    tile: int,
    overlap: int,
    on_features: OnFeatures | None = None,
) -> dict[str, Any]:
    """Fill the columns of a report that say what the model saw and said.

    Args:
        pixels: uint8 [height, width, 3] RGB.
        model: Its threshold decides.
        engine: What runs it.
        tile: Edge of the windows in pixels.
        overlap: What neighbouring windows share.
        on_features: As for `predict_tiles`.

    Raises:
        ImageRejected: The picture cannot be tiled, or the model fails on it.
    """
    height, width = pixels.shape[:2]
    grid = tile_grid(height, width, tile=tile, overlap=overlap)
    try:
        probabilities = predict_tiles(pixels, grid, engine, on_features)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ImageRejected("scoring_failed", "score", f"{type(error).__name__}: {error}") from error
    if not np.isfinite(probabilities).all():
        raise ImageRejected("scoring_failed", "score", "the model returned a probability that is no number")
    over = np.count_nonzero(probabilities >= np.float32(model.threshold))
    return {
        "tile_size": grid.tile_size,
        "tile_overlap": grid.overlap,
        "tile_rows": grid.rows,
        "tile_columns": grid.columns,
        "tile_probabilities": probabilities,
        "crack_probability": probabilities.max(),
        "crack_fraction": np.float32(over / len(probabilities)),
        "verdict": "crack" if over else "clear",
    }
