"""Load a model in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crackmodel.models.inference.engines import Engine
from crackmodel.models.inference.model_file import build_engine, read_model_file
from crackmodel.models.inference.out_of_distribution import TrainingDistribution
from crackmodel.models.preprocessing import prepare_tile
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model version with an engine that runs it.

    Attributes:
        version: Where it came from, with its card.
        engine: What runs it.
        distribution: Of the training images' features; None where the card has no threshold for it.
    """

    version: ModelVersion
    engine: Engine
    distribution: TrainingDistribution | None = None

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score prepared tiles: see `Engine.predict`."""
        return self.engine.predict(tiles)

    def ood_scores(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
        """Measure how unlike the training images prepared tiles are.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB, from `prepare_tile`.

        Returns:
            float32 [n], to be compared with the card's `ood.threshold`; about 1 for a training image. None
            for models without these statistics.
        """
        if self.distribution is None:
            return None
        features = self.engine.score(tiles).features
        return None if features is None else self.distribution.distances(features)

    def crack_probability(self, pixels: npt.NDArray[np.uint8]) -> float:
        """Score one picture of any size as a single tile.

        Args:
            pixels: uint8 [height, width, 3] RGB. The model is made for tiles of about 227 pixels; cut
                a whole photograph first, as `crackmodel.score_survey` does.

        Returns:
            The calibrated probability of a crack.
        """
        return float(self.predict(prepare_tile(pixels)[None])[0])

    def is_crack(self, pixels: npt.NDArray[np.uint8]) -> bool:
        """Compare `crack_probability` with the model's own threshold."""
        return self.crack_probability(pixels) >= self.version.threshold


def load_model(
    reference: str = "builtin", models: Path | str | None = None, engine: str = "litert", *, threads: int = 1
) -> LoadedModel:
    """Load a model version, checked against the hashes in its card.

    Args:
        reference: `builtin`, `NAME`, `NAME@VERSION` or `NAME@ALIAS`.
        models: The registry's folder, or its URI in an object store; None takes `CRACKMODEL_MODELS`, else
            `models`.
        engine: `litert`, `litert-int8` where the version has it, or `tensorflow` for the Keras model.
        threads: Of the LiteRT interpreter.

    Returns:
        Something with `predict`.

    Raises:
        UsageError: No such engine.
        ModelNotFound: No such model, version or alias, or it has no file for this engine.
        ModelCorrupt: A file is missing or has changed.
    """
    version = Registry(TrainSettings.read(models=models).models).resolve(reference)
    model = read_model_file(version, engine)
    return LoadedModel(version, build_engine(model, threads=threads), model.distribution)
