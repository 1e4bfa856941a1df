"""Cache of extracted features, keyed by file content and backbone.

    FEATURES/<fingerprint>/<chunk>.parquet    columns sha256, features

The fingerprint stands for the backbone, the preprocessing and the software that does both, the SHA-256 for a
file's bytes: renamed, moved and copied files are found, and features of another backbone are not. A chunk is
written as soon as its features are known, so that an interrupted training leaves what it has done to the next
one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from crackmodel.errors import ModelError
from crackmodel.models.preprocessing import RESIZE
from crackmodel.storage.files import replacing

Values = npt.NDArray[np.float32]

_HASHES: Final = "sha256"
_VALUES: Final = "features"

_EXTRACTING: Final = ("ai-edge-litert", "opencv-python-headless", "pillow")
"""Packages between a file and its features: another version of one may decode or calculate otherwise."""


def _fingerprint(backbone: bytes) -> str:
    """Hash what features depend on besides the picture."""
    software = [f"{package} {metadata.version(package)}" for package in _EXTRACTING]
    names = "\n".join([RESIZE, *software])
    return hashlib.sha256(hashlib.sha256(backbone).digest() + names.encode()).hexdigest()[:32]


class FeatureCache:
    """The features of one backbone, in a folder that trainings may share.

    Args:
        folder: Where all backbones' features are kept; None keeps none.
        backbone: The LiteRT export of the backbone.
    """

    def __init__(self, folder: Path | None, backbone: bytes) -> None:
        self._folder = folder and folder / _fingerprint(backbone)

    def load(self) -> dict[str, Values]:
        """Read everything: from a file's SHA-256 to its features, float32 [width].

        A chunk that is damaged is removed, and one that cannot be read now is passed over: their pictures
        count as new.
        """
        found: dict[str, Values] = {}
        for chunk in sorted(self._folder.glob("[!.]*.parquet")) if self._folder else ():
            try:
                rows = pq.read_table(chunk, page_checksum_verification=True)
                hashes = rows[_HASHES].to_pylist()
                values = rows[_VALUES].combine_chunks()
                # `flatten` leaves nulls out; a chunk with one is none of ours and fails to reshape.
                table = values.flatten().to_numpy().reshape(len(hashes), values.type.list_size)
            except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as fault:
                # A number means that the storage failed; Arrow's own complaints have none.
                if getattr(fault, "errno", None) is None:
                    with contextlib.suppress(OSError):
                        chunk.unlink()
                continue
            found.update(zip(hashes, table, strict=True))
        return found

    def add(self, sha256: Sequence[str], values: Values) -> None:
        """Write a chunk in one step that no reader sees half done.

        Args:
            sha256: The hash of each picture's file.
            values: float32 [n, width], in the same order.

        Raises:
            ModelError: The folder cannot be written.
        """
        if self._folder is None or not sha256:
            return
        rows = pa.table(
            {
                _HASHES: pa.array(sha256),
                _VALUES: pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1]),
            }
        )
        # Two trainings that extract the same chunk at once write the same file.
        name = hashlib.sha256("".join(sha256).encode()).hexdigest()[:32]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{name}.parquet") as unfinished:
                # Floats of a network's features do not compress.
                pq.write_table(
                    rows, unfinished, compression="none", use_dictionary=False, write_page_checksum=True
                )
        except OSError as fault:
            raise ModelError(
                f"The features cannot be kept below {self._folder}: {fault.strerror or fault}.",
                "Free space or choose another folder with --features or CRACKMODEL_FEATURES.",
            ) from fault
