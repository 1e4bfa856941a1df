"""Metrics of each group of a data set: of a photograph, a structure or a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crackmodel.models.evaluation.metrics import ScoredImages


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """What a model does on one group, at the model's threshold.

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
    """Measure every group of a data set; none where it names no groups.

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
