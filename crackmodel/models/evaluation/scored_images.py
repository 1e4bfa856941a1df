"""Labelled images with the probabilities that a model gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError
from crackmodel.models.datasets.labelled import BadFile, LabelledImages, read_tiles
from crackmodel.models.inference.engines import Engine

_CHUNK: Final = 250


@dataclass(frozen=True, slots=True)
class ScoredImages:
    """A labelled folder with the probabilities that a model gives its images.

    Attributes:
        root: The folder.
        files: Paths relative to it, good files only.
        labels: int8 [n], 1 for a crack.
        probabilities: float32 [n], calibrated.
        bad: Files that are not pictures.
        sha256: The content's hash of each file.
        groups: Each image's photograph or structure, None where the data set does not say.
    """

    root: Path
    files: tuple[str, ...]
    labels: npt.NDArray[np.int8]
    probabilities: npt.NDArray[np.float32]
    bad: tuple[BadFile, ...]
    sha256: tuple[str, ...] = field(default=(), repr=False)
    groups: tuple[str, ...] | None = None


def score_images(engine: Engine, images: LabelledImages) -> ScoredImages:
    """Score a data set, each image as one tile, in this process.

    Raises:
        DatasetError: Not one of its files is a picture.
    """
    probabilities: list[npt.NDArray[np.float32]] = []
    kept: list[npt.NDArray[np.int64]] = []
    bad: list[BadFile] = []
    hashes: list[str] = []
    for start in range(0, len(images.files), _CHUNK):
        chunk = read_tiles(images.root, images.files[start : start + _CHUNK])
        probabilities.append(engine.predict(chunk.tiles))
        kept.append(chunk.kept + start)
        bad += chunk.bad
        hashes += chunk.sha256
    rows = np.concatenate(kept)
    if not len(rows):
        raise DatasetError(
            f"None of the {len(images.files)} files in {images.root} is a picture: "
            f"{bad[0].file} is {bad[0].reason}.",
            "Point at folders of JPEG, PNG, TIFF, BMP or WebP images.",
        )
    return ScoredImages(
        images.root,
        tuple(images.files[row] for row in rows),
        images.labels[rows],
        np.concatenate(probabilities),
        tuple(bad),
        tuple(hashes),
        None if images.groups is None else tuple(images.groups[row] for row in rows),
    )
