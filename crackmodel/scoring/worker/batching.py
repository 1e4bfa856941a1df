"""Run the model on batches of tiles, and decide on each picture."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ImageRejected
from crackmodel.models.inference.engines import Engine, Scored
from crackmodel.models.inference.model_file import ModelFile, build_engine
from crackmodel.models.preprocessing import TILE_EDGE, prepare_tile
from crackmodel.scoring.worker.stages import StageWatch
from crackmodel.surveys.tiling import TileGrid, cut_tiles, tile_grid

_LOADED: Final = threading.local()
"""The engine that a thread has loaded: one interpreter cannot serve two threads at once."""


def cached_engine(model: ModelFile) -> Engine:
    """Return a model's engine, built once per thread.

    The last one is kept, and compared by its SHA-256.

    Raises:
        ModelError: The engine cannot be built.
    """
    if getattr(_LOADED, "model", None) != model:
        _LOADED.engine, _LOADED.model = build_engine(model), model
    engine: Engine = _LOADED.engine
    return engine


OnFeatures = Callable[[npt.NDArray[np.float32]], None]

Columns = dict[str, Any]
"""Columns of a report by name."""

_ENGINE_FAULTS: Final = (RuntimeError, ValueError, MemoryError)


class PictureScorer:
    """Runs the model on tiles, in batches that go across pictures.

    A picture's columns come when the batch with its last tile has run: at the latest with `finish`.

    Args:
        model: Its threshold decides.
        engine: What runs it, and how many tiles it wants at once.
        tile: Edge of the windows in pixels.
        overlap: What neighbouring windows share.
        watch: Measures cutting and running the model.
    """

    def __init__(
        self,
        model: ModelFile,
        engine: Engine,
        *,
        tile: int,
        overlap: int,
        watch: StageWatch | None = None,
    ) -> None:
        self._watch = watch or StageWatch()
        self._threshold = np.float32(model.threshold)
        self._engine = engine
        self._tile, self._overlap = tile, overlap
        self._batch = np.empty((engine.batch_size, TILE_EDGE, TILE_EDGE, 3), dtype=np.uint8)
        self._filled = 0
        self._spans: list[_Span] = []

    def add(
        self,
        pixels: npt.NDArray[np.uint8],
        on_columns: Callable[[Columns], Any],
        on_features: OnFeatures | None = None,
    ) -> None:
        """Take a picture; it is not needed any more when this returns.

        Args:
            pixels: uint8 [height, width, 3] RGB.
            on_columns: Called once, with the columns of the model's verdict or of the rejection.
            on_features: Called with the features float32 [n, 1280] of the tiles, some at a time in order,
                for models that return them.

        Raises:
            ImageRejected: The picture cannot be tiled.
        """
        grid = tile_grid(pixels.shape[0], pixels.shape[1], self._tile, self._overlap)
        picture = _Picture(grid, np.empty(len(grid), np.float32), on_columns, on_features)
        start = self._filled
        for tile in cut_tiles(pixels, grid):
            prepare_tile(tile, out=self._batch[self._filled])
            self._filled += 1
            if self._filled == len(self._batch):
                self._spans.append(_Span(picture, start, self._filled))
                self.finish()
                start = 0
        if self._filled > start:
            self._spans.append(_Span(picture, start, self._filled))
        self._watch.lap("tile")

    def finish(self) -> None:
        """Run the model on the tiles that wait, full batch or not."""
        spans, self._spans, self._filled = self._spans, [], 0
        self._watch.lap("tile")
        try:
            self._run(spans)
        except _ENGINE_FAULTS:
            for span in spans:  # one at a time, to find which picture it is
                try:
                    self._run([span])
                except _ENGINE_FAULTS as error:
                    span.picture.fail(f"{type(error).__name__}: {error}")
        self._watch.lap("engine")

    def _run(self, spans: list[_Span]) -> None:
        if not spans:
            return
        begin = spans[0].start
        tiles = self._batch[begin : spans[-1].stop]
        if any(span.picture.on_features for span in spans):
            scored = self._engine.score(tiles)
        else:
            scored = Scored(self._engine.predict(tiles), None)
        for span in spans:
            rows = slice(span.start - begin, span.stop - begin)
            features = None if scored.features is None else scored.features[rows]
            span.picture.take(scored.probabilities[rows], features, self._threshold)


@dataclass(slots=True)
class _Picture:
    """A picture, `done` of whose tiles are scored."""

    grid: TileGrid
    probabilities: npt.NDArray[np.float32]
    on_columns: Callable[[Columns], Any]
    on_features: OnFeatures | None
    done: int = 0
    failed: bool = False

    def take(
        self,
        probabilities: npt.NDArray[np.float32],
        features: npt.NDArray[np.float32] | None,
        threshold: np.float32,
    ) -> None:
        if self.failed:
            return
        self.probabilities[self.done : self.done + len(probabilities)] = probabilities
        self.done += len(probabilities)
        if self.on_features is not None and features is not None:
            self.on_features(features)
        if self.done < len(self.probabilities):
            return
        # A close-up is one tile, and NumPy's functions of one number take their time.
        one = len(self.probabilities) == 1
        highest = self.probabilities[0] if one else self.probabilities.max()
        if not math.isfinite(highest):  # NumPy's maximum is no number where one of them is none
            self.fail("the model returned a probability that is no number")
            return
        over = int(highest >= threshold) if one else np.count_nonzero(self.probabilities >= threshold)
        self.on_columns(
            {
                "tile_size": self.grid.tile_size,
                "tile_overlap": self.grid.overlap,
                "tile_rows": self.grid.rows,
                "tile_columns": self.grid.columns,
                "tile_probabilities": self.probabilities,
                "crack_probability": highest,
                "crack_fraction": np.float32(over / len(self.probabilities)),
                "verdict": "crack" if over else "clear",
            }
        )

    def fail(self, detail: str) -> None:
        if not self.failed:
            self.failed = True
            self.on_columns(rejection(ImageRejected("scoring_failed", "score", detail)))


class _Span(NamedTuple):
    """The tiles of a picture in a batch."""

    picture: _Picture
    start: int
    stop: int


def rejection(why: ImageRejected) -> Columns:
    """Return the columns of a rejected image."""
    return {
        "verdict": "rejected",
        "reject_code": why.code,
        "reject_stage": why.stage,
        "reject_detail": why.detail,
    }
