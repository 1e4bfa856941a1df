"""Labelled images in two class folders or a manifest.

    DATASET/Positive/*.jpg      or cracked/, crack/, ...: the class that is looked for
    DATASET/Negative/*.jpg      or any other name
    DATASET.csv                 or .parquet: see `crackmodel.models.datasets.manifests`

`find_images` lists without opening a file; `read_tiles` opens a chunk, and is what Ray tasks run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError, ImageRejected
from crackmodel.models.datasets.classes import positive_class
from crackmodel.models.datasets.manifests import read_manifest
from crackmodel.models.preprocessing import TILE_EDGE, prepare_tile
from crackmodel.storage.location import Location
from crackmodel.surveys.decoding import decode_image

HELD_OUT: Final = 0.30
TEST_OF_HELD_OUT: Final = 0.20
"""70 : 24 : 6 in two cuts. Written out, because 1 - 0.7 is a little more than 0.3."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """The files of a data set, not yet opened.

    Attributes:
        root: The data set's folder; the manifest's, where there is one.
        files: Paths relative to `root`, posix, sorted.
        labels: int8 [n], 1 for a crack.
        positive: Name of the class of cracks: a folder, or a label of the manifest.
        negative: Name of the other class.
        groups: Each file's photograph or structure, None where the data set does not say.
    """

    root: Path
    files: tuple[str, ...]
    labels: npt.NDArray[np.int8]
    positive: str
    negative: str
    groups: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file of a data set that is not a usable picture."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class TileChunk:
    """Tiles of the usable files, in the given order.

    Attributes:
        tiles: uint8 [n, 160, 160, 3] RGB.
        kept: int64 [n], the place of each tile among the files asked for.
        sha256: The content's hash of each tile's file.
        bad: What was left out.
    """

    tiles: npt.NDArray[np.uint8]
    kept: npt.NDArray[np.int64]
    sha256: tuple[str, ...]
    bad: tuple[BadFile, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts, each sorted, int64."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def find_images(root: Path | str, positive: str | None = None, also: Sequence[str] = ()) -> LabelledImages:
    """List the images of two class folders or a manifest.

    Hidden files and folders (leading dot) are ignored, and so are hidden class folders; sub-folders of
    a class folder belong to the class.

    Args:
        root: A folder with exactly two class folders, or a CSV or Parquet manifest.
        positive: The class of cracks; None recognises the names in `classes.POSITIVE_NAMES`.
        also: Further names to recognise where `positive` is None.

    Returns:
        Every file below the two folders or in the manifest; whether it is a picture is found out when it
        is read.

    Raises:
        DatasetError: Not a local folder, not two class folders, an empty one, or unclear which has cracks.
    """
    root = local_dataset(root)
    if root.is_file():
        return _find_in_manifest(root, positive, also)
    if not root.is_dir():
        raise DatasetError(f"The data set {root} is not a folder or a manifest.", _LAYOUT)
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if len(folders) != 2:
        found = ", ".join(folders[:8]) or "none"
        raise DatasetError(
            f"The data set {root} has {len(folders)} class folders ({found}), not two.", _LAYOUT
        )
    chosen = positive_class(root, folders, positive, "class folder", also)
    negative = next(name for name in folders if name != chosen)
    files: list[str] = []
    for name in folders:
        listed = _files_below(root, name)
        if not listed:
            raise DatasetError(f"The class folder {root / name} holds no files.", _LAYOUT)
        files += listed
    files.sort()
    labels = np.array([file.split("/", 1)[0] == chosen for file in files], dtype=np.int8)
    return LabelledImages(root, tuple(files), labels, chosen, negative)


def local_dataset(place: Path | str) -> Path:
    """Find the local folder or manifest of a path or URI.

    Raises:
        DatasetError: The data set is in an object store.
        UsageError: The address makes no sense.
    """
    location = Location.parse(place)
    if location.local is None:
        raise DatasetError(
            f"The data set {place} is in an object store, and training and evaluation read local files.",
            "Copy it to a local folder first, with the tools of your cloud, and give that folder.",
        )
    return location.local


def _find_in_manifest(path: Path, positive: str | None, also: Sequence[str]) -> LabelledImages:
    files, classes, groups = read_manifest(path)
    names = sorted(set(classes))
    if len(names) != 2:
        found = ", ".join(names[:8]) or "none"
        raise DatasetError(
            f"The manifest {path} has {len(names)} labels ({found}), not two.",
            "Label every image with one of two classes.",
        )
    chosen = positive_class(path, names, positive, "label", also)
    order = sorted(range(len(files)), key=files.__getitem__)
    return LabelledImages(
        path.parent,
        tuple(files[row] for row in order),
        np.array([classes[row] == chosen for row in order], np.int8),
        chosen,
        next(name for name in names if name != chosen),
        None if groups is None else tuple(groups[row] for row in order),
    )


_LAYOUT: Final = (
    "Point at a folder with two class folders of images, for example DATASET/Positive and DATASET/Negative, "
    "or at a CSV or Parquet file with the columns image and label."
)


def _files_below(root: Path, name: str) -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(root / name):
        folders[:] = [entry for entry in folders if not entry.startswith(".")]
        found += [
            (Path(folder) / entry).relative_to(root).as_posix()
            for entry in files
            if not entry.startswith(".")
        ]
    return found


def read_tiles(root: Path, files: Sequence[str]) -> TileChunk:
    """Read files as tiles; each image is one tile.

    Args:
        root: The data set's folder.
        files: Paths relative to it.

    Returns:
        Tiles of the good files; the bad ones are listed with a reason, nothing is raised for them.
    """
    tiles = np.empty((len(files), TILE_EDGE, TILE_EDGE, 3), np.uint8)
    kept: list[int] = []
    hashes: list[str] = []
    bad: list[BadFile] = []
    for place, file in enumerate(files):
        try:
            content = (root / file).read_bytes()
            prepare_tile(decode_image(content), out=tiles[len(kept)])
        except ImageRejected as fault:
            bad.append(BadFile(file, str(fault)))
        except OSError as fault:
            bad.append(BadFile(file, f"unreadable: {fault.strerror}"))
        else:
            kept.append(place)
            hashes.append(hashlib.sha256(content).hexdigest())
    return TileChunk(tiles[: len(kept)], np.array(kept, np.int64), tuple(hashes), tuple(bad))


def split_70_24_6(
    labels: npt.NDArray[np.integer], seed: int, strata: npt.NDArray[np.integer] | None = None
) -> Split:
    """Split 70:24:6 at random, stratified by class.

    This is scikit-learn's `train_test_split` twice, stratified: 30 % are held out of training,
    and a fifth of these is the test part.

    Args:
        labels: Integers [n], 0 or 1.
        seed: The same seed and labels give the same split.
        strata: Integers [n], each image's data set and class: the parts are alike in these, where there are
            images enough for that, else in classes.

    Returns:
        Three parts that cover every row once.

    Raises:
        DatasetError: A class has too few images to be in all three parts.
    """
    if strata is not None:
        try:
            return _split_alike(labels, seed, strata)
        except ValueError:
            pass  # scikit-learn: a data set is too small to be in every part
    try:
        return _split_alike(labels, seed, labels)
    except ValueError as fault:
        smallest = int(np.bincount(labels, minlength=2).min())
        raise DatasetError(
            f"{len(labels)} images, {smallest} of the smaller class, cannot be split 70:24:6: {fault}.",
            "Use at least 20 images of each class.",
        ) from fault


def _split_alike(labels: npt.NDArray[np.integer], seed: int, strata: npt.NDArray[np.integer]) -> Split:
    from sklearn.model_selection import train_test_split

    train, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, stratify=strata, random_state=seed
    )
    validation, test = train_test_split(
        held_out, test_size=TEST_OF_HELD_OUT, stratify=strata[held_out], random_state=seed
    )
    if any(len(np.unique(labels[part])) < 2 for part in (train, validation, test)):
        raise ValueError("a part would hold one class only")
    return Split(np.sort(train), np.sort(validation), np.sort(test))


def fingerprint(files: Sequence[str], sha256: Sequence[str], labels: npt.NDArray[np.integer]) -> str:
    """Hash the files, labels and contents of a data set.

    Args:
        files: Relative paths.
        sha256: The hash of each file's content.
        labels: The label of each file.

    Returns:
        SHA-256, in hexadecimal, over the sorted lines `path TAB sha256 TAB label`.
    """
    lines = sorted(
        f"{file}\t{digest}\t{int(label)}\n" for file, digest, label in zip(files, sha256, labels, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
