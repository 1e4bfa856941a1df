"""Bootstrap intervals of metrics, and the calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import Interval

RESAMPLES: Final = 1000
CALIBRATION_BINS: Final = 10


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


def reliability(labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating]) -> Reliability:
    """Bin images, 1 for a crack, by predicted probability within 0..1, in bins of equal width."""
    _, places, images = np.unique(_bins(probabilities), return_inverse=True, return_counts=True)
    predicted, observed = (np.bincount(places, weights=each) / images for each in (probabilities, labels))
    return Reliability(predicted, observed, images)


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
    images = _Weighted(labels, probabilities, threshold)
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, count, count), minlength=count)
        weights = drawn[members].astype(np.float64)
        for name, value in images.metrics(weights).items():
            found.setdefault(name, []).append(value)
    intervals = {}
    for name, values in found.items():
        defined = np.array(values)[~np.isnan(values)]
        if len(defined):
            low, high = np.percentile(defined, (2.5, 97.5))
            intervals[name] = Interval(float(low), float(high))
    return intervals


class _Weighted:
    """Metrics of many weightings of the same images, sorted once."""

    def __init__(
        self, labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating], threshold: float
    ) -> None:
        scores = np.asarray(probabilities, np.float64)
        self.cracks, self.called = np.asarray(labels) == 1, np.asarray(probabilities) >= threshold
        self.errors, self.bins = scores - labels, _bins(scores)
        self.order = np.argsort(-scores, kind="stable")
        ranked = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def metrics(self, weights: npt.NDArray[np.float64]) -> dict[str, float]:
        """Return each metric, NaN where the weighted images do not define it."""
        total, positives, verdicts = weights.sum(), weights[self.cracks].sum(), weights[self.called].sum()
        hits = weights[self.cracks & self.called].sum()
        apart = np.bincount(self.bins, weights=weights * self.errors)
        auroc, average_precision = self._ranking(weights[self.order])
        return {
            "accuracy": float(weights[self.cracks == self.called].sum() / total),
            "precision": float(hits / verdicts) if verdicts else 0.0,
            "recall": float(hits / positives) if positives else np.nan,
            "f1": float(2 * hits / (verdicts + positives)) if verdicts + positives else np.nan,
            "auroc": auroc,
            "average_precision": average_precision,
            "brier": float((weights * self.errors**2).sum() / total),
            "expected_calibration_error": float(np.abs(apart).sum() / total),
        }

    def _ranking(self, ranked: npt.NDArray[np.float64]) -> tuple[float, float]:
        hits = np.add.reduceat(ranked * self.cracks[self.order], self.starts)
        alarms = np.add.reduceat(ranked * ~self.cracks[self.order], self.starts)
        hits_above, alarms_above = np.cumsum(hits), np.cumsum(alarms)
        cracks, clear = hits_above[-1], alarms_above[-1]
        if not cracks or not clear:
            return np.nan, np.nan
        auroc = float((alarms * (hits_above - hits / 2)).sum() / (cracks * clear))
        called = hits_above + alarms_above
        precision = np.divide(hits_above, called, out=np.zeros_like(called), where=called > 0)
        return auroc, float((hits * precision).sum() / cracks)


def _bins(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    # 1.0 belongs to the last bin.
    places = (np.asarray(probabilities, np.float64) * CALIBRATION_BINS).astype(np.int64)
    return np.minimum(places, CALIBRATION_BINS - 1)
