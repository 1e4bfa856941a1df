"""What training tells while it runs: frozen records for whoever listens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeaturesExtracted:
    """So many of the data set's files have been turned into features."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class EpochFinished:
    """One pass over the training part is over; epochs are counted from 1."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


TrainingEvent = FeaturesExtracted | EpochFinished
