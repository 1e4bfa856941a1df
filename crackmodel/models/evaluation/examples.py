"""Example pictures: mistakes, right verdicts, activation maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from crackmodel.models.datasets.labelled import read_tiles
from crackmodel.models.evaluation.activation_maps import activation_maps
from crackmodel.models.evaluation.figures import file_name, new_figure, plain_text
from crackmodel.models.evaluation.html_page import Picture
from crackmodel.models.evaluation.metrics import EvaluatedSet
from crackmodel.models.evaluation.scored_images import ScoredImages

COLUMNS: Final = 6
ROWS: Final = 2

_RED: Final = "#c0392b"
_GREEN: Final = "#3d8f5f"
_SHOWN_LETTERS: Final = 22

Rows = npt.NDArray[np.int64]


def most_wrong(scored: ScoredImages, threshold: float) -> Rows:
    """Pick the most confident mistakes of both kinds.

    Each kind is sorted by its distance from the threshold, so that a set with a hundred false alarms
    still shows the cracks it missed.

    Args:
        scored: Labels and probabilities.
        threshold: At or above it the verdict is `crack`.

    Returns:
        Up to 12 rows; none where nothing is wrong.
    """
    labels, probabilities = scored.labels, scored.probabilities
    called = probabilities >= threshold
    missed = np.flatnonzero((labels == 1) & ~called)
    alarms = np.flatnonzero((labels == 0) & called)
    missed = missed[np.argsort(probabilities[missed], kind="stable")]
    alarms = alarms[np.argsort(-probabilities[alarms], kind="stable")]
    wanted = COLUMNS * ROWS
    first = max(wanted // 2, wanted - len(alarms))
    second = wanted - min(first, len(missed))
    return np.concatenate([missed[:first], alarms[:second]])


def some_right(scored: ScoredImages, threshold: float, seed: int = 0) -> Rows:
    """Pick random images with right verdicts, of both classes.

    Returns:
        Up to 12 rows; the same seed picks the same.
    """
    right = (scored.probabilities >= threshold) == (scored.labels == 1)
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(right & (scored.labels == label)) for label in (1, 0)]
    return np.concatenate([np.sort(rng.permutation(group)[:COLUMNS]) for group in rows])


def draw_examples(directory: Path, name: str, found: EvaluatedSet, model: bytes) -> Iterator[Picture]:
    """Draw mistakes, right verdicts and activation maps of a data set.

    Args:
        directory: Where to write.
        name: The data set's.
        found: Its images and metrics.
        model: The content of `model.tflite`, for the activation maps.

    Yields:
        The pictures; none without an image to draw, and no maps of a model with another architecture.
    """
    scored, threshold = found.scored, found.metrics.threshold
    mistakes = found.metrics.false_positives + found.metrics.false_negatives
    for kind, rows, words in (
        ("wrong", most_wrong(scored, threshold), f"most wrong of {mistakes:,}"),
        ("right", some_right(scored, threshold), "right, taken by chance"),
    ):
        path = directory / f"{kind}_{file_name(name)}.png"
        if _draw_tiles(path, scored, rows, threshold):
            caption = f"{name}: {words}. Above each image its label and the model's probability of a crack."
            yield Picture(path, caption)
    path = directory / f"looks_{file_name(name)}.png"
    if _draw_attention(path, scored, threshold, model):
        yield Picture(
            path,
            f"{name}: where the model looks, in cracks that it found and in its worst mistakes (class "
            "activation map). Red places speak for a crack, blue ones against, "
            "each map on its own scale of log-odds.",
        )


def _draw_tiles(path: Path, scored: ScoredImages, rows: Rows, threshold: float) -> bool:
    """Draw images in a green frame, or red where the verdict is wrong; whether there was any."""
    chunk = read_tiles(scored.root, [scored.files[row] for row in rows])
    if not len(chunk.kept):
        return False
    figure = new_figure((1.75 * COLUMNS, 2.15 * -(-len(chunk.kept) // COLUMNS)))
    axes = figure.subplots(-(-len(chunk.kept) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, tile, row in zip(axes, chunk.tiles, rows[chunk.kept], strict=False):
        _draw_tile(axis, tile, scored, row, threshold)
        axis.set_xlabel(_short(scored.files[row]), fontsize=7, color="#555555", labelpad=3)
    figure.savefig(path)
    return True


def shown_places(scored: ScoredImages, threshold: float) -> Rows:
    """Pick some cracks that were found and the worst mistakes.

    Returns:
        Up to 6 rows; right verdicts on clear images where there are too few mistakes.
    """
    right = some_right(scored, threshold)
    found, clear = right[scored.labels[right] == 1], right[scored.labels[right] == 0]
    others = np.concatenate([most_wrong(scored, threshold)[: COLUMNS // 2], clear])
    first = found[: max(COLUMNS // 2, COLUMNS - len(others))]
    return np.concatenate([first, others[: COLUMNS - len(first)]])


def _draw_attention(path: Path, scored: ScoredImages, threshold: float, model: bytes) -> bool:
    """Draw the images of `shown_places` with their activation maps; whether there was any."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    rows = shown_places(scored, threshold)
    chunk = read_tiles(scored.root, [scored.files[row] for row in rows])
    maps = activation_maps(model, chunk.tiles)
    if maps is None or not len(maps):
        return False
    colours = ScalarMappable(Normalize(-1, 1), cmap="RdBu_r")
    figure = new_figure((1.75 * COLUMNS, 4.5))
    axes = figure.subplots(2, COLUMNS, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for (above, below), tile, places, row in zip(axes.T, chunk.tiles, maps, rows[chunk.kept], strict=False):
        _draw_tile(above, tile, scored, row, threshold)
        # Each map on its own scale: beside a wide crack, what the model saw in a hairline would vanish.
        limit = max(float(np.abs(places).max()), 1e-6)
        strength = cv2.resize(places / limit, tile.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        below.axis("on")
        below.imshow(tile.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        veil = colours.to_rgba(strength)
        veil[..., 3] = 0.7 * np.abs(strength)
        below.imshow(veil)
        below.set(xticks=[], yticks=[])
        words = f"{_short(scored.files[row])}\nup to ±{limit:.1f}"
        below.set_xlabel(words, fontsize=7, color="#555555", labelpad=3)
    bar = figure.colorbar(
        colours, ax=axes[1, :], orientation="horizontal", fraction=0.06, pad=0.04, aspect=60
    )
    bar.set_ticks([-1, 0, 1], labels=["against a crack", "0", "for a crack"], fontsize=8)
    figure.savefig(path)
    return True


def _draw_tile(
    axis: Any, tile: npt.NDArray[np.uint8], scored: ScoredImages, row: int, threshold: float
) -> None:
    label, probability = int(scored.labels[row]), float(scored.probabilities[row])
    right = (probability >= threshold) == (label == 1)
    axis.axis("on")
    axis.imshow(tile)
    axis.set(xticks=[], yticks=[])
    for edge in axis.spines.values():
        edge.set(color=_GREEN if right else _RED, linewidth=2.5)
    axis.set_title(f"{'crack' if label else 'clear'}, model {probability:.3f}", fontsize=9, pad=4)


def _short(file: str) -> str:
    return plain_text(file if len(file) <= _SHOWN_LETTERS else f"…{file[1 - _SHOWN_LETTERS :]}")
