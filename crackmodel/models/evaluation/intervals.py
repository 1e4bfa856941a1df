"""Bootstrap intervals of metrics, and the calibration error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import Interval

RESAMPLES: Final = 1000
CALIBRATION_BINS: Final = 10

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Images binned by predicted probability, without empty bins.

    Attributes:
        predicted: float64, mean probability of a crack in the bin.
        observed: float64, share of cracks in the bin.
        images: int64, images in the bin.
    """

    predicted: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]
    images: npt.NDArray[np.int64]

    @property
    def error(self) -> float:
        """The expected calibration error: mean distance of `predicted` and `observed`, by images.

        Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
        AAAI 2015, for the probability of a crack.
        """
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.images))


def reliability(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating], bins: int = CALIBRATION_BINS
) -> Reliability:
    """Bin images by predicted probability, in bins of equal width.

    Args:
        labels: Integers [n], 1 for a crack; n > 0.
        probabilities: Floats [n] within 0..1.
        bins: How many.
    """
    # 1.0 belongs to the last bin.
    places = np.minimum((np.asarray(probabilities, np.float64) * bins).astype(int), bins - 1)
    images = np.bincount(places, minlength=bins)
    filled = images > 0
    predicted = np.bincount(places, weights=probabilities, minlength=bins)[filled] / images[filled]
    observed = np.bincount(places, weights=labels, minlength=bins)[filled] / images[filled]
    return Reliability(predicted, observed, images[filled])


def wilson_interval(
    shares: npt.NDArray[np.float64], images: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute 95 % Wilson intervals of shares.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.

    Args:
        shares: float64 [n] within 0..1.
        images: int64 [n], how many each share is of; above 0.

    Returns:
        The lower and the upper ends.
    """
    z = 1.96
    middle = (shares + z**2 / (2 * images)) / (1 + z**2 / images)
    reach = z * np.sqrt(shares * (1 - shares) / images + z**2 / (4 * images**2)) / (1 + z**2 / images)
    return np.maximum(middle - reach, 0), np.minimum(middle + reach, 1)


def bootstrap(
    labels: npt.NDArray[np.integer],
    probabilities: npt.NDArray[np.floating],
    threshold: float,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Estimate 95 % intervals by the percentile bootstrap (Efron 1979).

    Args:
        labels: Integers [n], 1 for a crack; n > 0.
        probabilities: Floats [n] of a crack.
        threshold: At or above it the verdict is `crack`.
        groups: Each image's photograph or structure. Whole groups are drawn then, because images of
            one group err together, and intervals over single images come out too narrow.
        resamples: How many sets are drawn.
        seed: The same seed gives the same intervals.

    Returns:
        By the name of the metric. A metric that no resample defines (AUROC of one class) is left out; a
        single group, or image, says nothing about others and gives no interval.
    """
    members = (
        np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    count = int(members.max()) + 1
    if count < 2:
        return {}
    ranking = _Ranking(labels, probabilities)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, count, count), minlength=count)
        weights = drawn[members].astype(np.float64)
        for name, value in _weighted_metrics(ranking, labels, probabilities, threshold, weights).items():
            found.setdefault(name, []).append(value)
    intervals = {}
    for name, values in found.items():
        defined = np.array(values)[~np.isnan(values)]
        if len(defined):
            low, high = np.percentile(defined, (2.5, 97.5))
            intervals[name] = Interval(float(low), float(high))
    return intervals


class _Ranking:
    """Ranking metrics of many weightings of the same probabilities, sorted once."""

    def __init__(self, labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating]) -> None:
        self.order = np.argsort(-np.asarray(probabilities), kind="stable")
        ranked = np.asarray(probabilities)[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.cracks = np.asarray(labels)[self.order] == 1

    def metrics(self, weights: Weights) -> tuple[float, float]:
        """Return AUROC and average precision, NaN without both classes."""
        ranked = weights[self.order]
        hits = np.add.reduceat(ranked * self.cracks, self.starts)
        alarms = np.add.reduceat(ranked * ~self.cracks, self.starts)
        hits_above, alarms_above = np.cumsum(hits), np.cumsum(alarms)
        cracks, clear = hits_above[-1], alarms_above[-1]
        if not cracks or not clear:
            return np.nan, np.nan
        auroc = float((alarms * (hits_above - hits / 2)).sum() / (cracks * clear))
        called = hits_above + alarms_above
        precision = np.divide(hits_above, called, out=np.zeros_like(called), where=called > 0)
        return auroc, float((hits * precision).sum() / cracks)


def _weighted_metrics(
    ranking: _Ranking,
    labels: npt.NDArray[np.integer],
    probabilities: npt.NDArray[np.floating],
    threshold: float,
    weights: Weights,
) -> Mapping[str, float]:
    cracks, called = np.asarray(labels) == 1, np.asarray(probabilities) >= threshold
    total, positives, verdicts = weights.sum(), weights[cracks].sum(), weights[called].sum()
    hits = weights[cracks & called].sum()
    squares = (np.asarray(probabilities, np.float64) - labels) ** 2
    places = np.minimum(
        (np.asarray(probabilities, np.float64) * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1
    )
    apart = np.bincount(places, weights=weights * (probabilities - labels), minlength=CALIBRATION_BINS)
    auroc, average_precision = ranking.metrics(weights)
    return {
        "accuracy": float(weights[cracks == called].sum() / total),
        "precision": float(hits / verdicts) if verdicts else 0.0,
        "recall": float(hits / positives) if positives else np.nan,
        "f1": float(2 * hits / (verdicts + positives)) if verdicts + positives else np.nan,
        "auroc": auroc,
        "average_precision": average_precision,
        "brier": float((weights * squares).sum() / total),
        "expected_calibration_error": float(np.abs(apart).sum() / total),
    }
