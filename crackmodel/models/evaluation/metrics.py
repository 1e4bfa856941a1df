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

    verdicts = (probabilities >= threshold).astype(int)
    (tn, fp), (fn, tp) = metrics.confusion_matrix(labels, verdicts, labels=[0, 1])
    both = len(np.unique(labels)) == 2
    return Metrics(
        images=len(labels),
        cracks=int(labels.sum()),
        threshold=threshold,
        accuracy=float(metrics.accuracy_score(labels, verdicts)),
        precision=float(metrics.precision_score(labels, verdicts, zero_division=0)),
        recall=float(metrics.recall_score(labels, verdicts, zero_division=0)),
        f1=float(metrics.f1_score(labels, verdicts, zero_division=0)),
        auroc=float(metrics.roc_auc_score(labels, probabilities)) if both else None,
        average_precision=float(metrics.average_precision_score(labels, probabilities)) if both else None,
        brier=float(np.mean((probabilities.astype(np.float64) - labels) ** 2)),
        true_positives=int(tp),
        false_positives=int(fp),
        false_negatives=int(fn),
        true_negatives=int(tn),
        expected_calibration_error=reliability(labels, probabilities).error,
        intervals=bootstrap(labels, probabilities, threshold, groups=groups),
    )


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
    """Measure every group of a data set that has groups.

    Args:
        scored: Labels, probabilities and groups.
        threshold: At or above it the verdict is `crack`.

    Returns:
        By the group's name, sorted.
    """
    if scored.groups is None:
        return {}
    names, members = np.unique(np.asarray(scored.groups), return_inverse=True)
    order = np.argsort(members, kind="stable")
    ends = np.cumsum(np.bincount(members))[:-1]
    return {
        str(name): _measure(scored.labels[rows], scored.probabilities[rows], threshold)
        for name, rows in zip(names, np.split(order, ends), strict=True)
    }


def _measure(
    labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32], threshold: float
) -> GroupMetrics:
    from sklearn.metrics import roc_auc_score

    cracks, called = labels == 1, probabilities >= threshold
    tp, fp = int(np.sum(cracks & called)), int(np.sum(~cracks & called))
    fn, tn = int(np.sum(cracks & ~called)), int(np.sum(~cracks & ~called))
    return GroupMetrics(
        images=len(labels),
        cracks=tp + fn,
        accuracy=(tp + tn) / len(labels),
        precision=tp / (tp + fp) if tp + fp else None,
        recall=tp / (tp + fn) if tp + fn else None,
        auroc=float(roc_auc_score(cracks, probabilities)) if tp + fn and fp + tn else None,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
    )
