"""Figures of an evaluation: learning curves, confusion matrix, ROC, reliability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import Epoch, Metrics
from crackmodel.models.evaluation.intervals import CALIBRATION_BINS, reliability, wilson_interval

Curves = Mapping[str, tuple[npt.NDArray[np.integer], npt.NDArray[np.floating]]]

FEWEST_IN_BIN: Final = 5
"""Fewer images say nothing about a probability: such bins are left out of the reliability diagram."""

_UNIT_SQUARE: Final[Mapping[str, Any]] = {"aspect": "equal", "xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}

_BLUE: Final = "#1f5fa8"
_ORANGE: Final = "#d9641e"
_COLOURS: Final = (_BLUE, _ORANGE, "#3d8f5f", "#7a4fa3", "#8a6d3b")


def draw_evaluation(
    directory: Path, *, history: Sequence[Epoch], scored: Curves, metrics: Mapping[str, Metrics]
) -> list[Path]:
    """Draw the curves and the confusion matrices of a model, as PNG.

    Args:
        directory: Where to write; it is made.
        history: Every epoch of a training; none, no curves.
        scored: Labels [n] and probabilities [n] of each set.
        metrics: Of the same sets.

    Returns:
        The files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = [_draw_history(directory / "training.png", history)] if history else []
    written += [
        _draw_confusion(directory / f"confusion_{file_name(name)}.png", name, found)
        for name, found in metrics.items()
    ]
    both = {name: pair for name, pair in scored.items() if len(np.unique(pair[0])) == 2}
    if both:
        written += [
            _draw_roc(directory / "roc.png", both),
            _draw_precision_recall(directory / "precision_recall.png", both),
        ]
    return [*written, _draw_reliability(directory / "reliability.png", scored)]


def plain_text(text: str) -> str:
    """Escape dollar signs and undecodable letters for Matplotlib."""
    shown = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in shown).replace("$", r"\$")


def _legend(name: str, measured: str) -> str:
    # Matplotlib leaves names with a leading underscore out of its legends.
    return f"{plain_text(name.lstrip('_'))}  ({measured})"


_IN_FILE_NAMES: Final = {"/": "_", ":": "--"}


def file_name(name: str) -> str:
    """Turn a data set's name into a part of a file name."""
    return "".join(
        letter if letter.isalnum() or letter in "_-." else _IN_FILE_NAMES.get(letter, "+") for letter in name
    )


def new_figure(size: tuple[float, float]) -> Any:
    """Make an empty figure, in inches, that can be saved as PNG."""
    # Not pyplot: it keeps every figure alive and picks a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@contextmanager
def _drawn(path: Path, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Lend the axes of a figure, side by side, and save it."""
    figure = new_figure(size)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e4e4e4", linewidth=0.8)
        axis.set_axisbelow(True)
    yield axes
    figure.savefig(path)


def _coloured(scored: Curves) -> Iterator[tuple[str, npt.NDArray[np.integer], npt.NDArray[np.floating], str]]:
    for (name, (labels, probabilities)), colour in zip(scored.items(), cycle(_COLOURS), strict=False):
        yield name, labels, probabilities, colour


def _draw_history(path: Path, history: Sequence[Epoch]) -> Path:
    epochs = [row.epoch for row in history]
    with _drawn(path, 2, (9, 3.8)) as (left, right):
        for axis, what in ((left, "loss"), (right, "accuracy")):
            for part, prefix, style, colour in (
                ("training", "", "o-", _BLUE),
                ("validation", "val_", "s-", _ORANGE),
            ):
                values = [getattr(row, prefix + what) for row in history]
                axis.plot(epochs, values, style, color=colour, label=part, markersize=4)
            axis.set(xlabel="epoch", title=what.capitalize(), xticks=epochs)
            axis.legend(frameon=False)
        left.set_ylim(bottom=0)
    return path


def _draw_confusion(path: Path, name: str, metrics: Metrics) -> Path:
    counts = np.array(
        [[metrics.true_negatives, metrics.false_positives], [metrics.false_negatives, metrics.true_positives]]
    )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _drawn(path, 1, (4.6, 4.2)) as (axis,):
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.grid(visible=False)
        for row, column in np.ndindex(2, 2):
            axis.text(
                column, row, f"{counts[row, column]:,}\n{shares[row, column]:.2%}",
                ha="center", va="center", fontsize=12,
                color="white" if shares[row, column] > 0.5 else "black",
            )  # fmt: skip
        names = ["clear", "crack"]
        title = f"{plain_text(name)}, threshold {metrics.threshold:g}"
        axis.set(xlabel="model says", ylabel="label says", title=title)
        axis.set(xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names)
    return path


def _draw_roc(path: Path, scored: Curves) -> Path:
    from sklearn.metrics import roc_auc_score, roc_curve

    with _drawn(path, 1, (5, 4.6)) as (axis,):
        axis.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
        for name, labels, probabilities, colour in _coloured(scored):
            false, true, _ = roc_curve(labels, probabilities)
            area = roc_auc_score(labels, probabilities)
            axis.plot(false, true, color=colour, label=_legend(name, f"area {area:.4f}"))
        axis.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", **_UNIT_SQUARE)
        axis.legend(frameon=False, loc="lower right")
    return path


def _draw_precision_recall(path: Path, scored: Curves) -> Path:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    with _drawn(path, 1, (5, 4.6)) as (axis,):
        for name, labels, probabilities, colour in _coloured(scored):
            precision, recall, _ = precision_recall_curve(labels, probabilities)
            legend = _legend(name, f"average {average_precision_score(labels, probabilities):.4f}")
            axis.plot(recall, precision, color=colour, drawstyle="steps-post", label=legend)
        axis.set(xlabel="recall", ylabel="precision", title="Precision and recall", **_UNIT_SQUARE)
        axis.legend(frameon=False, loc="lower left")
    return path


def _draw_reliability(path: Path, scored: Curves) -> Path:
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    with _drawn(path, 2, (9.6, 4.9)) as (left, right):
        left.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
        for name, labels, probabilities, colour in _coloured(scored):
            found = reliability(labels, probabilities)
            shown = found.images >= FEWEST_IN_BIN
            predicted, observed = found.predicted[shown], found.observed[shown]
            low, high = wilson_interval(observed, found.images[shown])
            left.plot(predicted, observed, "o:", color=colour, markersize=5, linewidth=1)
            left.vlines(predicted, low, high, color=colour, linewidth=1.2)
            counts, _ = np.histogram(probabilities, edges)
            legend = _legend(name, f"error {found.error:.4f}")
            right.stairs(counts, edges, color=colour, linewidth=1.5, label=legend)
        predicted_axis = "predicted probability of a crack"
        left.set(xlabel=predicted_axis, ylabel="share of cracks", title="Reliability", **_UNIT_SQUARE)
        right.set_yscale("symlog", linthresh=1)
        right.set(xlabel=predicted_axis, ylabel="images", title="How sure the model is")
        right.set(xlim=(-0.02, 1.02), ylim=(0, None))
        left.figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return path
