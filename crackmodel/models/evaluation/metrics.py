"""Metrics of a model, by set and by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import Metrics
from crackmodel.models.evaluation.intervals import bootstrap, reliability
from crackmodel.models.evaluation.scored_images import ScoredImages

Probabilities = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class EvaluatedSet:
    """A scored data set with its metrics at the model's threshold."""

    scored: ScoredImages
    metrics: Metrics


def measure(
    labels: Labels, probabilities: Probabilities, threshold: float, *, groups: Sequence[str] | None = None
) -> Metrics:
    """Compute the metrics of a set, with 95 % bootstrap intervals.

    Args:
        labels: Integers [n], 1 for a crack; n > 0.
        probabilities: Floats [n] of a crack.
        threshold: At or above it the verdict is `crack`.
        groups: Each image's photograph or structure, for the intervals: see `intervals.bootstrap`.

    Returns:
        As scikit-learn defines them; Brier is the mean squared error of the probability.
    """
    from sklearn import metrics

    called = probabilities >= threshold
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, called.astype(int), average="binary", zero_division=0
    )
    both = len(np.unique(labels)) == 2
    return Metrics(
        **_counts(labels, called),
        threshold=threshold,
        accuracy=float(np.mean(called == (labels == 1))),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auroc=float(metrics.roc_auc_score(labels, probabilities)) if both else None,
        average_precision=float(metrics.average_precision_score(labels, probabilities)) if both else None,
        brier=float(np.mean((probabilities.astype(np.float64) - labels) ** 2)),
        expected_calibration_error=reliability(labels, probabilities).error,
        intervals=bootstrap(labels, probabilities, threshold, groups=groups),
    )


def measure_set(scored: ScoredImages, threshold: float) -> EvaluatedSet:
    """Measure a scored data set, with intervals over its groups."""
    metrics = measure(scored.labels, scored.probabilities, threshold, groups=scored.groups)
    return EvaluatedSet(scored, metrics)


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """Metrics of one group at the model's threshold.

    What a group does not define is None: precision where nothing was called a crack, recall where there
    is none, AUROC with one class only.
    """

    images: int
    cracks: int
    accuracy: float
    precision: float | None
    recall: float | None
    auroc: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def mistakes(self) -> int:
        """Wrong verdicts."""
        return self.false_positives + self.false_negatives


def measure_groups(scored: ScoredImages, threshold: float) -> dict[str, GroupMetrics]:
    """Measure every group of a data set that has groups, by name in order."""
    if scored.groups is None:
        return {}
    names, members = np.unique(np.asarray(scored.groups), return_inverse=True)
    return {
        str(name): _measure(
            scored.labels[members == number], scored.probabilities[members == number], threshold
        )
        for number, name in enumerate(names)
    }


def _measure(labels: Labels, probabilities: Probabilities, threshold: float) -> GroupMetrics:
    from sklearn.metrics import roc_auc_score

    cracks, called = labels == 1, probabilities >= threshold
    return GroupMetrics(
        **_counts(labels, called),
        accuracy=float(np.mean(called == cracks)),
        precision=float(np.mean(cracks[called])) if called.any() else None,
        recall=float(np.mean(called[cracks])) if cracks.any() else None,
        auroc=float(roc_auc_score(cracks, probabilities)) if cracks.any() and not cracks.all() else None,
    )


def _counts(labels: Labels, called: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Count images, cracks, and right and wrong verdicts, by the field of `Metrics`."""
    cracks = labels == 1
    counted = {
        "images": np.ones_like(cracks),
        "cracks": cracks,
        "true_positives": cracks & called,
        "false_positives": ~cracks & called,
        "false_negatives": cracks & ~called,
        "true_negatives": ~cracks & ~called,
    }
    return {name: int(rows.sum()) for name, rows in counted.items()}
