"""A model ready to use, by one call."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelCorrupt
from crackmodel.models.inference.engines import Engine, KerasEngine, LiteRTEngine
from crackmodel.models.inference.out_of_distribution import Familiarity
from crackmodel.models.preprocessing import prepare_tile
from crackmodel.models.registry.registry import KERAS_MODEL, ModelVersion, Registry
from crackmodel.models.registry.versions import OOD_STATISTICS


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version with an engine that runs it.

    Attributes:
        version: Where it came from, with its card.
        engine: What runs it.
        familiarity: What it was trained on looks like, None where its card does not say.
    """

    version: ModelVersion
    engine: Engine
    familiarity: Familiarity | None = None

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score prepared tiles.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB, from `prepare_tile`.

        Returns:
            float32 [n], the calibrated probability of a crack in each.
        """
        return self.engine.predict(tiles)

    def ood_scores(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
        """Measure how unlike the training images prepared tiles are.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB, from `prepare_tile`.

        Returns:
            float32 [n], to be compared with the card's `ood.threshold`; about 1 for a training image. None
            for models without these statistics.
        """
        features = None if self.familiarity is None else self.engine.score(tiles).features
        return None if features is None else self.familiarity.distances(features)  # type: ignore[union-attr]

    def crack_probability(self, pixels: npt.NDArray[np.uint8]) -> float:
        """Score one picture of any size as a single tile.

        Args:
            pixels: uint8 [height, width, 3] RGB. The model knows tiles of about 227 pixels; a whole
                photograph wants cutting first, as `crackmodel.score_survey` does.

        Returns:
            The calibrated probability of a crack.
        """
        return float(self.predict(prepare_tile(pixels)[None])[0])

    def is_crack(self, pixels: npt.NDArray[np.uint8]) -> bool:
        """Compare `crack_probability` with the model's own threshold."""
        return self.crack_probability(pixels) >= self.version.threshold


def load_model(
    reference: str = "builtin", models: Path | str = "models", engine: str = "litert", *, threads: int = 1
) -> LoadedModel:
    """Load a model version, checked against the hashes in its card.

    Args:
        reference: `builtin`, `NAME`, `NAME@VERSION` or `NAME@ALIAS`.
        models: The registry's folder, or its URI in an object store.
        engine: `litert`, `litert-int8` where the version has it, or `tensorflow` for the Keras model.
        threads: Of the LiteRT interpreter.

    Returns:
        Something with `predict`.

    Raises:
        UsageError: No such engine.
        ModelNotFound: No such model, version or alias, or it has no file for this engine.
        ModelCorrupt: A file is missing or has changed.
    """
    version = Registry(models).resolve(reference)
    return LoadedModel(version, build_engine(version, engine, threads=threads), read_familiarity(version))


def read_familiarity(version: ModelVersion) -> Familiarity | None:
    """Read what a version was trained on looks like; None where its card does not say.

    Raises:
        ModelCorrupt: The card speaks of it, but the file is missing, has changed or holds something else.
    """
    if version.card.ood is None:
        return None
    if not version.has_file(OOD_STATISTICS):
        raise ModelCorrupt(
            f"The card of {version.reference} has a threshold for unfamiliar images but no {OOD_STATISTICS}.",
            _OTHER_VERSION,
        )
    try:
        return Familiarity.from_bytes(version.read_file(OOD_STATISTICS))
    except ValueError as fault:
        raise ModelCorrupt(
            f"{version.path / OOD_STATISTICS} holds {fault}.",
            _OTHER_VERSION,
        ) from fault


def build_engine(version: ModelVersion, engine: str = "litert", *, threads: int = 1) -> Engine:
    """Build an engine for a model version.

    Raises:
        UsageError: No such engine.
        ModelNotFound: The version has no file for it; for int8 the message says why.
        ModelCorrupt: The file is missing or has changed.
    """
    content = version.read_file(version.engine_file(engine))
    if engine == KerasEngine.name:
        with tempfile.TemporaryDirectory(prefix="crackmodel-") as folder:  # Keras reads files alone
            path = Path(folder) / KERAS_MODEL
            path.write_bytes(content)
            return KerasEngine(path, temperature=version.temperature)
    return LiteRTEngine(content, threads=threads, temperature=version.temperature, name=engine)


_OTHER_VERSION: Final = "Take another version or train the model again."
