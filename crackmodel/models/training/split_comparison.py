"""Comparison of the random with the grouped split.

A head on the backbone's features takes seconds, so every training fits one on the split that it does not
use. Where all layers are trained that would be hours: there both splits are compared by such heads.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from crackmodel.models.training.frozen_head import fit_head

THIS_MODEL: Final = "this model"
HEAD: Final = "a head on frozen features"
EPOCHS: Final = 10
BATCH_SIZE: Final = 16
"""Of the reference recipe."""

Values = npt.NDArray[np.float32]


def other_rule(rule: SplitRule) -> SplitRule:
    """Return the rule of the other kind, with the same seed."""
    return SplitRule("grouped" if rule.kind == "random" else "random", None, rule.seed)


def fit_split(
    rule: SplitRule,
    images: TrainingImages,
    sha256: Sequence[str],
    features: Values,
    target_recall: float | None,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
) -> SplitScore:
    """Fit a head on one way of splitting, and score it on its own test part.

    Args:
        rule: The split.
        images: The usable ones.
        sha256: The hash of each of these.
        features: float32 [n, 1280] of each of these.
        target_recall: What the threshold is chosen for: see `calibration.choose_threshold`.
        epochs: Passes over the training part.
        batch_size: Rows a step.

    Returns:
        The score; where the data cannot be split so, the reason.
    """
    try:
        division = divide_images(rule, images, sha256, features)
    except DatasetError as fault:
        return SplitScore(rule.kind, HEAD, problem=fault.problem)
    head, _ = fit_head(
        features, images.labels, division.split, epochs=epochs, batch_size=batch_size, seed=rule.seed
    )
    outputs = np.asarray(head.predict(features, batch_size=1024, verbose=0))
    return score_head(rule.kind, division, outputs, images.labels, target_recall)


def score_head(
    kind: str, division: Division, outputs: Values, labels: npt.NDArray[np.int8], target_recall: float | None
) -> SplitScore:
    """Score a head's softmax outputs, float32 [n, 2], on the test part of its split."""
    split = division.split
    found = fit_temperature(log_odds(outputs[split.validation]), labels[split.validation])
    probabilities = calibrate(outputs, found.temperature)
    threshold = choose_threshold(
        labels[split.validation], probabilities[split.validation], target_recall=target_recall
    )
    groups = None if division.groups is None else [division.groups[row] for row in split.test]
    metrics = measure(labels[split.test], probabilities[split.test], threshold.value, groups=groups)
    return _describe(kind, division, HEAD, metrics)


def beside_own(
    scores: Sequence[SplitScore], kind: str, own: Division, own_test: Metrics
) -> tuple[SplitScore, ...]:
    """Put the score of the model's own split first, where no head was fitted on it."""
    if kind in {score.kind for score in scores}:
        return tuple(scores)
    return (_describe(kind, own, THIS_MODEL, own_test), *scores)


def _describe(kind: str, division: Division, model: str, metrics: Metrics) -> SplitScore:
    return SplitScore(
        kind,
        model,
        split=division.described,
        groups=division.group_count,
        near_duplicates=round(division.near_duplicates, 4),
        test=metrics,
    )
