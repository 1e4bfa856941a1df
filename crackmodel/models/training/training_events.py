"""Events of a training, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass

from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobEvent
from crackmodel.models.datasets.inventory import DatasetRead
from crackmodel.text import printable

__all__ = ["DatasetRead", "EpochFinished", "FeaturesExtracted", "RecipeRepeated", "TrainingEvent"]


@dataclass(frozen=True, slots=True)
class FeaturesExtracted:
    """So many of the data set's files have been turned into features."""

    done: int
    total: int

    @property
    def text(self) -> str:
        """How far it is."""
        return f"features of {self.done:,} of {self.total:,} images"


@dataclass(frozen=True, slots=True)
class RecipeRepeated:
    """A training repeats another one's recipe; these differences are not the recipe's."""

    reference: str
    differences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The recipe, and what differs besides."""
        if not self.differences:
            return f"the recipe, images, weights and software of {self.reference}"
        return f"the recipe of {self.reference}, but {printable('; '.join(self.differences))}"


@dataclass(frozen=True, slots=True)
class EpochFinished:
    """An epoch is over; epochs are counted from 1."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float

    @property
    def text(self) -> str:
        """Loss and accuracy of both parts."""
        return (
            f"epoch {self.epoch:3} of {self.epochs}: loss {self.loss:.4f}, accuracy {self.accuracy:.4f}, "
            f"validation loss {self.val_loss:.4f}, accuracy {self.val_accuracy:.4f}"
        )


TrainingEvent = FeaturesExtracted | DatasetRead | RecipeRepeated | EpochFinished | ClusterAwaited | JobEvent
