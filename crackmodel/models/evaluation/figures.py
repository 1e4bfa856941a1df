"""Figures of an evaluation: learning curves, confusion matrix, ROC, reliability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from crackmodel.models.card.card import Epoch, Metrics
from crackmodel.models.evaluation.html_page import Picture
from crackmodel.models.evaluation.intervals import CALIBRATION_BINS, reliability
from crackmodel.models.evaluation.metrics import EvaluatedSet

FEWEST_IN_BIN: Final = 5
"""Fewer images say nothing about a probability: such bins are left out of the reliability diagram."""

_UNIT_SQUARE: Final[Mapping[str, Any]] = {"aspect": "equal", "xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}

_COLOURS: Final = ("#1f5fa8", "#d9641e", "#3d8f5f", "#7a4fa3", "#8a6d3b")


def draw_evaluation(
    directory: Path, sets: Mapping[str, EvaluatedSet], history: Sequence[Epoch] = ()
) -> list[Picture]:
    """Draw the curves and the confusion matrices of a model, as PNG.

    Args:
        directory: Where to write; it is made.
        sets: By name.
        history: Every epoch of a training; none, no curves.

    Returns:
        The files written, with captions.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pictures = [_draw_history(directory / "training.png", history)] if history else []
    pictures += [_draw_confusion(directory, name, found.metrics) for name, found in sets.items()]
    both = {name: found for name, found in sets.items() if found.metrics.auroc is not None}
    if both:
        pictures += _draw_rates(directory, both)
    return [*pictures, _draw_reliability(directory / "reliability.png", sets)]


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
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=110, layout="constrained")


@contextmanager
def _drawn(path: Path, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    """Lend the axes of a figure, side by side, and save it."""
    figure = new_figure(size)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e4e4e4", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.set_prop_cycle(color=_COLOURS)
    yield axes
    figure.savefig(path)


def _draw_history(path: Path, history: Sequence[Epoch]) -> Picture:
    epochs = [row.epoch for row in history]
    with _drawn(path, 2, (9, 3.8)) as (left, right):
        for axis, what in ((left, "loss"), (right, "accuracy")):
            for part, prefix, style in (("training", "", "o-"), ("validation", "val_", "s-")):
                values = [getattr(row, prefix + what) for row in history]
                axis.plot(epochs, values, style, label=part, markersize=4)
            axis.set(xlabel="epoch", title=what.capitalize(), xticks=epochs)
            axis.legend(frameon=False)
        left.set_ylim(bottom=0)
    return Picture(path, "Loss and accuracy by epoch.")


def _draw_confusion(directory: Path, name: str, metrics: Metrics) -> Picture:
    path = directory / f"confusion_{file_name(name)}.png"
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
    return Picture(path, f"{name}: confusion matrix at the model's threshold; shares are of each row.")


def _draw_rates(directory: Path, sets: Mapping[str, EvaluatedSet]) -> list[Picture]:
    """Draw the ROC and the precision-recall curves of sets with both classes."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc = Picture(directory / "roc.png", "ROC: cracks found against false alarms, at every threshold.")
    precisions = Picture(directory / "precision_recall.png", "Precision and recall at every threshold.")
    with _drawn(roc.path, 1, (5, 4.6)) as (left,), _drawn(precisions.path, 1, (5, 4.6)) as (right,):
        left.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
        for name, found in sets.items():
            false, true, _ = roc_curve(found.scored.labels, found.scored.probabilities)
            left.plot(false, true, label=_legend(name, f"area {found.metrics.auroc:.4f}"))
            precision, recall, _ = precision_recall_curve(found.scored.labels, found.scored.probabilities)
            legend = _legend(name, f"average {found.metrics.average_precision:.4f}")
            right.plot(recall, precision, drawstyle="steps-post", label=legend)
        left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", **_UNIT_SQUARE)
        left.legend(frameon=False, loc="lower right")
        right.set(xlabel="recall", ylabel="precision", title="Precision and recall", **_UNIT_SQUARE)
        right.legend(frameon=False, loc="lower left")
    return [roc, precisions]


def _draw_reliability(path: Path, sets: Mapping[str, EvaluatedSet]) -> Picture:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    with _drawn(path, 2, (9.6, 4.9)) as (left, right):
        left.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
        for name, each in sets.items():
            found = reliability(each.scored.labels, each.scored.probabilities)
            shown = found.images >= FEWEST_IN_BIN
            predicted, observed, images = found.predicted[shown], found.observed[shown], found.images[shown]
            (line,) = left.plot(predicted, observed, "o:", markersize=5, linewidth=1)
            for place, share, count in zip(predicted, observed, images, strict=True):
                bar = binomtest(round(share * count), int(count)).proportion_ci(method="wilson")
                left.vlines(place, bar.low, bar.high, color=line.get_color(), linewidth=1.2)
            counts, _ = np.histogram(each.scored.probabilities, edges)
            legend = _legend(name, f"error {found.error:.4f}")
            right.stairs(counts, edges, color=line.get_color(), linewidth=1.5, label=legend)
        predicted_axis = "predicted probability of a crack"
        left.set(xlabel=predicted_axis, ylabel="share of cracks", title="Reliability", **_UNIT_SQUARE)
        right.set_yscale("symlog", linthresh=1)
        right.set(xlabel=predicted_axis, ylabel="images", title="How sure the model is")
        right.set(xlim=(-0.02, 1.02), ylim=(0, None))
        left.figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return Picture(
        path,
        "Reliability: of the images with about one probability, the share that are cracks. "
        "On the dashed line probabilities can be taken at their word. Bars are 95 % intervals; "
        f"bins of fewer than {FEWEST_IN_BIN} images are left out. The error is the mean distance to "
        "the line.",
    )
