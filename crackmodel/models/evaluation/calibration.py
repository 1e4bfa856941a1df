"""Temperature and threshold of a model, chosen on its validation part."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import Calibration, Threshold

TEMPERATURES: Final = (0.5, 10.0)
"""Calibration stays in here. A validation part without a mistake would ask for 0: certainty."""

SURVEY_CRACKS: Final = 0.1
"""Share of cracked tiles that the threshold is chosen for."""

F1_THRESHOLDS: Final = (
    *(step / 20 for step in range(1, 20)), *(step / 100 for step in range(96, 100)),
    *(step / 1000 for step in range(991, 1000)),
)  # fmt: skip
"""Where a threshold for the best F1 may lie: finer towards 1, where the probabilities are."""

HIGHEST_OF_EQUALS: Final = 0.90
"""A threshold above this has to be better than all below: a few images that a model tells apart without a
mistake would ask for 0.999, and lose the next crack."""

RECALL_THRESHOLDS: Final = (0.01, 0.90)
"""Where a threshold for a recall may lie: below, nearly everything would be a crack."""

Probabilities = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def fit_temperature(margins: npt.NDArray[np.float64], labels: Labels) -> Calibration:
    """Choose the temperature that makes the labels likeliest.

    Args:
        margins: Floats [n], log-odds of a crack on the validation part: see `engines.log_odds`.
        labels: Integers [n].

    Returns:
        Temperature scaling within `TEMPERATURES`, rounded to four decimals.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    signed = np.where(labels == 1, margins, -margins)

    def surprise(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_temperature)).mean())

    low, high = np.log(TEMPERATURES)
    best = minimize_scalar(surprise, bounds=(low, high), method="bounded")
    return Calibration("temperature scaling, validation part", round(float(np.exp(best.x)), 4))


def choose_threshold(
    labels: Labels, probabilities: Probabilities, *, target_recall: float | None = None
) -> Threshold:
    """Choose the threshold for the best F1 or for a target recall.

    Best F1 is that of a survey where one tile in ten is cracked: a validation part is half cracks, a survey
    mostly clear, and without weights the threshold would come out too low for surveys. Candidates are
    `F1_THRESHOLDS`. Of equals the highest is taken, up to `HIGHEST_OF_EQUALS`.

    For a recall it is the highest threshold that reaches it, within `RECALL_THRESHOLDS`. The highest
    either way, because a survey shows more that is not concrete than any validation part does.

    Args:
        labels: Integers [n] of the validation part, both classes.
        probabilities: Floats [n], calibrated.
        target_recall: Share of the validation part's cracks to find, within 0..1; None for the best F1.

    Returns:
        The threshold, with its rule in words. Where even the lowest does not reach the recall, that one;
        the words say so.
    """
    cracks = labels == 1
    if target_recall is not None:
        return _for_recall(probabilities[cracks], target_recall)
    best, best_f1 = 0.5, -1.0
    for threshold in F1_THRESHOLDS:
        recall = float(np.mean(probabilities[cracks] >= threshold))
        alarms = float(np.mean(probabilities[~cracks] >= threshold))
        hits = SURVEY_CRACKS * recall
        f1 = 2 * hits / (hits + (1 - SURVEY_CRACKS) * alarms + SURVEY_CRACKS)
        if f1 > best_f1 or (f1 == best_f1 and threshold <= HIGHEST_OF_EQUALS):
            best, best_f1 = threshold, f1
    return Threshold(
        best,
        "best F1 on the validation part, weighted as if one tile in ten were cracked, "
        "among 0.05, 0.10 ... 0.95, 0.96 ... 0.99, 0.991 ... 0.999; of equals the highest up to 0.90",
    )


def _for_recall(cracks: Probabilities, target: float) -> Threshold:
    lowest, highest = RECALL_THRESHOLDS
    # As many cracks as the share asks for; the subtraction keeps 0.95 of 20 at 19 in floating point.
    needed = max(int(np.ceil(target * len(cracks) - 1e-9)), 1)
    reaching = float(np.sort(cracks)[::-1][needed - 1])
    # Rounded down: a threshold above the probability would lose the crack it was made for.
    value = float(np.clip(np.floor(reaching * 1000) / 1000, lowest, highest))
    recall = float(np.mean(cracks >= value))
    if recall < target - 1e-9:
        chosen = (
            f"the target recall of {target:g} on the validation part was not reached: "
            f"it is {recall:.4f} at {lowest:g}, the lowest threshold that is chosen"
        )
    else:
        chosen = (
            f"for a recall of {target:g} on the validation part, where it is {recall:.4f}; the highest "
            f"threshold that reaches it, {highest:g} at most"
        )
    return Threshold(value, chosen, target)
