"""Comparison of the random with the grouped split.

A head on the backbone's features takes seconds, so every training fits one on the split that it does not
use. Where all layers are trained that would be hours: there both splits are compared by such heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError
from crackmodel.models.card.card import Metrics, SplitScore
from crackmodel.models.datasets.several import TrainingImages
from crackmodel.models.datasets.splits import Division, SplitRule, divide_images
from crackmodel.models.evaluation.calibration import choose_threshold, fit_temperature
from crackmodel.models.evaluation.metrics import measure
from crackmodel.models.inference.engines import calibrate, log_odds
from crackmodel.models.training.features import Features
from crackmodel.models.training.frozen_head import fit_head

THIS_MODEL: Final = "this model"
HEAD: Final = "a head on frozen features"
EPOCHS: Final = 10
BATCH_SIZE: Final = 16
"""Of the reference recipe."""

Outputs = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SplitFit:
    """A head fitted on one way of splitting.

    Attributes:
        kind: `random` or `grouped`.
        division: The split; None where it cannot be made.
        outputs: Softmax outputs float32 [n, 2] of that head, for all images.
        problem: Why there is none.
    """

    kind: str
    division: Division | None = None
    outputs: Outputs | None = None
    problem: str = ""


def other_rule(rule: SplitRule) -> SplitRule:
    """Return the rule of the other kind, with the same seed."""
    return SplitRule("grouped" if rule.kind == "random" else "random", None, rule.seed)


def fit_split(
    rule: SplitRule,
    images: TrainingImages,
    features: Features,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
) -> SplitFit:
    """Fit a head on one way of splitting.

    Args:
        rule: The split.
        images: What was listed.
        features: Of the usable images.
        epochs: Passes over the training part.
        batch_size: Rows a step.

    Returns:
        The outputs; where the data cannot be split so, the reason.
    """
    try:
        division = divide_images(rule, images, features.kept, features.sha256, features.values)
    except DatasetError as fault:
        return SplitFit(rule.kind, problem=fault.problem)
    labels = images.labels[features.kept]
    head, _ = fit_head(
        features.values, labels, division.split, epochs=epochs, batch_size=batch_size, seed=rule.seed
    )
    outputs = head.predict(features.values, batch_size=1024, verbose=0)
    return SplitFit(rule.kind, division, np.asarray(outputs))


def score_splits(
    split_fits: Sequence[SplitFit],
    labels: npt.NDArray[np.int8],
    own: Division,
    own_kind: str,
    own_test: Metrics,
    target_recall: float | None = None,
) -> tuple[SplitScore, ...]:
    """Score every head on its own test part.

    Args:
        split_fits: From `fit_split`.
        labels: int8 [n].
        own: The split of the model itself.
        own_kind: `random` or `grouped`.
        own_test: The model's metrics on its test part.
        target_recall: What thresholds are chosen for: see `calibration.choose_threshold`.

    Returns:
        The scores to compare, that of the model's own split first.
    """
    scores = [_score(fit, labels, target_recall) for fit in split_fits]
    if own_kind not in {fit.kind for fit in split_fits}:
        scores.insert(0, _describe(own_kind, own, THIS_MODEL, own_test))
    return tuple(scores)


def _score(fit: SplitFit, labels: npt.NDArray[np.int8], target_recall: float | None) -> SplitScore:
    if fit.division is None or fit.outputs is None:
        return SplitScore(fit.kind, HEAD, problem=fit.problem)
    split = fit.division.split
    found = fit_temperature(log_odds(fit.outputs[split.validation]), labels[split.validation])
    probabilities = calibrate(fit.outputs, found.temperature)
    threshold = choose_threshold(
        labels[split.validation], probabilities[split.validation], target_recall=target_recall
    )
    groups = fit.division.groups
    metrics = measure(
        labels[split.test],
        probabilities[split.test],
        threshold.value,
        groups=None if groups is None else [groups[row] for row in split.test],
    )
    return _describe(fit.kind, fit.division, HEAD, metrics)


def _describe(kind: str, division: Division, model: str, metrics: Metrics) -> SplitScore:
    return SplitScore(
        kind,
        model,
        split=division.described,
        groups=division.group_count,
        near_duplicates=round(division.near_duplicates, 4),
        test=metrics,
    )
