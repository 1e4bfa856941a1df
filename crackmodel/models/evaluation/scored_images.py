"""Labelled images with the probabilities that a model gives them."""

from __future__ import annotations

from collections.abc import Sequence
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


def score_files(
    engine: Engine, root: Path, files: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], list[BadFile], list[str]]:
    """Score files as one tile each: rows, probabilities and hashes of the good ones, and the bad ones."""
    kept, probabilities = [], []
    bad: list[BadFile] = []
    hashes: list[str] = []
    for start in range(0, len(files), _CHUNK):
        chunk = read_tiles(root, files[start : start + _CHUNK])
        kept.append(chunk.kept + start)
        probabilities.append(engine.predict(chunk.tiles))
        bad += chunk.bad
        hashes += chunk.sha256
    return np.concatenate(kept), np.concatenate(probabilities), bad, hashes


def score_images(engine: Engine, images: LabelledImages) -> ScoredImages:
    """Score a data set, each image as one tile, in this process.

    Raises:
        DatasetError: Not one of its files is a picture.
    """
    rows, probabilities, bad, hashes = score_files(engine, images.root, images.files)
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
        probabilities,
        tuple(bad),
        tuple(hashes),
        None if images.groups is None else tuple(images.groups[row] for row in rows),
    )
