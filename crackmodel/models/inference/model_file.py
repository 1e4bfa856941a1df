"""A version's model as bytes, which any process turns into an engine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crackmodel.errors import ModelCorrupt
from crackmodel.models.inference.engines import Engine, KerasEngine, LiteRTEngine
from crackmodel.models.inference.out_of_distribution import TrainingDistribution
from crackmodel.models.registry.versions import KERAS_MODEL, OOD_STATISTICS, ModelVersion

_OTHER_VERSION: Final = "Take another version or train the model again."


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The file of a version that one engine runs.

    Attributes:
        reference: `name@version`.
        sha256: Of `content`; it stands for `content` where two are compared.
        engine: `litert`, `litert-int8` or `tensorflow`.
        temperature: Of the calibration.
        threshold: From which probability on a tile is a crack.
        content: The bytes, not a path: workers may have another disk.
        ood_threshold: From which distance on a tile is out of distribution; None where the card has none.
        distribution: What distances are measured from; None where the card has no such threshold.
    """

    reference: str
    sha256: str
    engine: str
    temperature: float
    threshold: float
    content: bytes = field(compare=False, repr=False)
    ood_threshold: float | None = None
    distribution: TrainingDistribution | None = field(default=None, compare=False, repr=False)


def read_model_file(version: ModelVersion, engine: str = "litert") -> ModelFile:
    """Read and check the file that an engine runs.

    Raises:
        UsageError: There is no such engine.
        ModelNotFound: The version has no file for it; for int8 the message says why.
        ModelCorrupt: A file is missing, has changed or holds something else.
    """
    name = version.engine_file(engine)
    ood = version.card.ood
    return ModelFile(
        reference=version.reference,
        sha256=version.card.files[name].sha256,
        engine=engine,
        temperature=version.temperature,
        threshold=version.threshold,
        content=version.read_file(name),
        ood_threshold=None if ood is None else ood.threshold,
        distribution=read_distribution(version),
    )


def read_distribution(version: ModelVersion) -> TrainingDistribution | None:
    """Read the training distribution; None where the card has no threshold.

    Raises:
        ModelCorrupt: The card has one, but the file is missing, has changed or holds something else.
    """
    if version.card.ood is None:
        return None
    if not version.has_file(OOD_STATISTICS):
        raise ModelCorrupt(
            f"The card of {version.reference} has a threshold for unfamiliar images but no {OOD_STATISTICS}.",
            _OTHER_VERSION,
        )
    try:
        return TrainingDistribution.from_bytes(version.read_file(OOD_STATISTICS))
    except ValueError as fault:
        raise ModelCorrupt(f"{version.path / OOD_STATISTICS} holds {fault}.", _OTHER_VERSION) from fault


def build_engine(model: ModelFile, *, threads: int = 1) -> Engine:
    """Build the engine that runs a model.

    Args:
        model: From `read_model_file`.
        threads: Of the LiteRT interpreter; 1 where every core has an engine of its own.

    Raises:
        UsageError: TensorFlow is needed and not installed.
        ModelCorrupt: The content is not a model.
    """
    if model.engine == KerasEngine.name:
        with tempfile.TemporaryDirectory(prefix="crackmodel-") as folder:  # Keras reads files alone
            path = Path(folder) / KERAS_MODEL
            path.write_bytes(model.content)
            return KerasEngine(path, temperature=model.temperature)
    return LiteRTEngine(model.content, threads=threads, temperature=model.temperature, name=model.engine)
