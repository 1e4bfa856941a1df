"""What training tells while it runs: frozen records for whoever listens."""

from __future__ import annotations

from dataclasses import dataclass

from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobEvent
from crackmodel.models.datasets.inventory import DatasetRead

__all__ = ["DatasetRead", "EpochFinished", "FeaturesExtracted", "RecipeRepeated", "TrainingEvent"]


@dataclass(frozen=True, slots=True)
class FeaturesExtracted:
    """So many of the data set's files have been turned into features."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RecipeRepeated:
    """A training repeats another one's recipe; these differences are not the recipe's."""

    reference: str
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EpochFinished:
    """One pass over the training part is over; epochs are counted from 1."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


TrainingEvent = FeaturesExtracted | DatasetRead | RecipeRepeated | EpochFinished | ClusterAwaited | JobEvent
