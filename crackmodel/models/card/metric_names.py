"""The metrics of a card, as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crackmodel.models.card.card import Metrics

METRIC_NAMES: Final[Mapping[str, str]] = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
}
"""Field of `Metrics` to its usual name, in the order of display."""


def number_text(value: float | None) -> str:
    """Write a count or a share; a dash for None."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def metric_text(metrics: Metrics, name: str) -> str:
    """Write a metric with its interval; a dash where it is undefined."""
    text, interval = number_text(getattr(metrics, name)), metrics.intervals.get(name)
    return text if interval is None else f"{text} ({interval.low:.4f} to {interval.high:.4f})"
