"""One immutable model version: its card and checked files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from crackmodel.errors import ModelCorrupt, ModelNotFound, UsageError
from crackmodel.models.card.card import Card, FileRecord, card_from_json
from crackmodel.storage.advice import raised_as
from crackmodel.storage.location import Location

CARD: Final = "card.json"
LITERT_MODEL: Final = "model.tflite"
KERAS_MODEL: Final = "model.keras"
INT8_MODEL: Final = "model-int8.tflite"
OOD_STATISTICS: Final = "ood.npz"

ENGINE_FILES: Final[Mapping[str, str]] = {
    "litert": LITERT_MODEL,
    "litert-int8": INT8_MODEL,
    "tensorflow": KERAS_MODEL,
}
"""The file of a version that each engine runs."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable model.

    Attributes:
        name: The model, `builtin` for the one that ships.
        version: `v1`, `v2`, ...
        path: The version's folder; `Path` unless the registry is in an object store.
        card: What its `card.json` says.
    """

    name: str
    version: str
    path: Path | Location
    card: Card

    @property
    def reference(self) -> str:
        """`name@version`, which resolves to this version for good."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """Hash of `model.tflite`: the model's identity in a report, unless another engine's file ran."""
        return self._record(LITERT_MODEL).sha256

    @property
    def threshold(self) -> float:
        """From which probability on a tile is a crack."""
        return self.card.threshold.value

    @property
    def temperature(self) -> float:
        """The calibration's temperature."""
        return self.card.calibration.temperature

    def has_file(self, name: str) -> bool:
        """Say whether the card lists such a file."""
        return name in self.card.files

    def engine_file(self, engine: str) -> str:
        """Name the file that an engine runs.

        Raises:
            UsageError: There is no such engine.
            ModelNotFound: This version has no file for it; for int8 the card's reason is given.
        """
        if engine not in ENGINE_FILES:
            raise UsageError(f"There is no engine {engine!r}.", f"Take one of: {', '.join(ENGINE_FILES)}.")
        name = ENGINE_FILES[engine]
        if not self.has_file(name):
            others = " or ".join(known for known, file in ENGINE_FILES.items() if self.has_file(file))
            raise ModelNotFound(
                f"The model {self.reference} has no {name}, which --engine {engine} needs"
                f"{f': {self._why_no_int8}' if name == INT8_MODEL else ''}.",
                f"Use --engine {others}, take another version, or train one.",
            )
        return name

    def read_file(self, name: str) -> bytes:
        """Read a file of the version and check it.

        Args:
            name: As the card lists it, for example `model.tflite`.

        Raises:
            ModelNotFound: The card lists no such file.
            ModelCorrupt: It is missing or its SHA-256 is not the card's.
        """
        expected = self._record(name)
        path = self.path / name
        with raised_as(ModelCorrupt, f"{path} cannot be read", _RESTORE):
            content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != expected.sha256:
            raise ModelCorrupt(
                f"{path} has SHA-256 {found[:12]}..., the model's card says {expected.sha256[:12]}....",
                _RESTORE,
            )
        return content

    def verify(self) -> None:
        """Check every file of the version.

        Raises:
            ModelCorrupt: One is missing or has changed.
        """
        for name in self.card.files:
            self.read_file(name)

    @property
    def _why_no_int8(self) -> str:
        return self.card.int8.reason if self.card.int8 else "it was trained before there were int8 models"

    def _record(self, name: str) -> FileRecord:
        try:
            return self.card.files[name]
        except KeyError:
            listed = ", ".join(sorted(self.card.files)) or "nothing"
            raise ModelNotFound(
                f"The model {self.reference} has no file {name}; it has {listed}.",
                "Take a version that has it, or train one.",
            ) from None


_RESTORE: Final = "Restore the version from a backup, take another one, or train the model again."


def open_version(name: str, version: str | None, path: Path | Location) -> ModelVersion:
    """Open a version's folder.

    Args:
        name: The model.
        version: None takes the card's word for it.
        path: The folder.

    Raises:
        ModelCorrupt: The card is missing, malformed, or lists a file outside the folder.
    """
    try:
        with raised_as(ModelCorrupt, f"{path / CARD} cannot be read", _RESTORE):
            card = card_from_json((path / CARD).read_bytes())
    except ValueError as fault:
        raise ModelCorrupt(f"{path / CARD} is not a model card: {fault}.", _RESTORE) from fault
    outside = [file for file in card.files if file[:1] == "/" or ".." in PurePosixPath(file).parts]
    if outside:
        raise ModelCorrupt(f"{path / CARD} lists a file outside the version: {outside[0]}.", _RESTORE)
    return ModelVersion(name, version or card.version, path, card)
