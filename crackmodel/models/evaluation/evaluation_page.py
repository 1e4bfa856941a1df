"""The page of an evaluation: its pictures with captions, and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crackmodel.models.card.card import Epoch, Metrics
from crackmodel.models.evaluation.examples import draw_attention, draw_examples, most_wrong, some_right
from crackmodel.models.evaluation.figures import FEWEST_IN_BIN, draw_evaluation, file_name
from crackmodel.models.evaluation.html_page import Picture, Table, metrics_table, write_page
from crackmodel.models.evaluation.metrics import measure_groups
from crackmodel.models.evaluation.scored_images import ScoredImages

PAGE: Final = "index.html"

_MOST_GROUPS: Final = 50


@dataclass(frozen=True, slots=True)
class EvaluatedSet:
    """A scored data set with its metrics at the model's threshold."""

    scored: ScoredImages
    metrics: Metrics


def write_evaluation_page(
    directory: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    sets: Mapping[str, EvaluatedSet],
    model: bytes,
    *,
    history: Sequence[Epoch] = (),
    tables: Sequence[Table] = (),
) -> list[str]:
    """Write `index.html` and the pictures in it.

    Args:
        directory: Where to write; it is made.
        title: The heading.
        facts: What was evaluated, as name and value.
        sets: By name.
        model: The content of `model.tflite`, for the activation maps.
        history: Every epoch, where a training is evaluated.
        tables: Shown between the metrics and the tables by group.

    Returns:
        The pictures' file names, in the order of the page.
    """
    pictures = _draw_pictures(directory, sets, model, history)
    by_group = (group_table(name, found) for name, found in sets.items())
    shown = [
        metrics_table({name: found.metrics for name, found in sets.items()}),
        *tables,
        *(table for table in by_group if table),
    ]
    write_page(directory / PAGE, title, facts, shown, pictures)
    return [picture.path.name for picture in pictures]


def _draw_pictures(
    directory: Path, sets: Mapping[str, EvaluatedSet], model: bytes, history: Sequence[Epoch]
) -> list[Picture]:
    curves = {name: (found.scored.labels, found.scored.probabilities) for name, found in sets.items()}
    metrics = {name: found.metrics for name, found in sets.items()}
    pictures = [
        Picture(path, _caption(path.stem, list(sets)))
        for path in draw_evaluation(directory, history=history, scored=curves, metrics=metrics)
    ]
    for name, found in sets.items():
        pictures += _example_pictures(directory, name, found)
        pictures += _attention_picture(directory, name, found, model)
    return pictures


def group_table(name: str, found: EvaluatedSet) -> Table | None:
    """Tabulate the metrics by group, most mistakes first, if there are groups."""
    groups = measure_groups(found.scored, found.metrics.threshold)
    if not groups:
        return None
    worst = sorted(groups.items(), key=lambda item: (-item[1].mistakes, item[0]))[:_MOST_GROUPS]
    left_out = (
        f", the {_MOST_GROUPS} of {len(groups):,} with the most mistakes" if len(groups) > len(worst) else ""
    )
    return Table(
        f"{name} by group{left_out}",
        [
            *("group", "images", "cracks", "cracks missed", "false alarms"),
            *("accuracy", "precision", "recall", "AUROC"),
        ],
        [
            [
                group,
                *(f"{n:,}" for n in (own.images, own.cracks, own.false_negatives, own.false_positives)),
                *(
                    "-" if value is None else f"{value:.4f}"
                    for value in (own.accuracy, own.precision, own.recall, own.auroc)
                ),
            ]
            for group, own in worst
        ],
    )


def _attention_picture(directory: Path, name: str, found: EvaluatedSet, model: bytes) -> Iterator[Picture]:
    path = draw_attention(
        directory / f"looks_{file_name(name)}.png", found.scored, found.metrics.threshold, model
    )
    if path:
        yield Picture(
            path,
            f"{name}: where the model looks, in cracks that it found and in its worst mistakes (class "
            "activation map). Red places speak for a crack, blue ones against, "
            "each map on its own scale of log-odds.",
        )


def _example_pictures(directory: Path, name: str, found: EvaluatedSet) -> Iterator[Picture]:
    scored, threshold = found.scored, found.metrics.threshold
    mistakes = found.metrics.false_positives + found.metrics.false_negatives
    for kind, rows, words in (
        ("wrong", most_wrong(scored, threshold), f"most wrong of {mistakes:,}"),
        ("right", some_right(scored, threshold), "right, taken by chance"),
    ):
        path = draw_examples(directory / f"{kind}_{file_name(name)}.png", scored, rows, threshold)
        if path:
            caption = f"{name}: {words}. Above each image its label and the model's probability of a crack."
            yield Picture(path, caption)


def _caption(stem: str, names: list[str]) -> str:
    kind = stem.split("_", 1)[0]
    shown = next((name for name in names if stem == f"confusion_{file_name(name)}"), "")
    return {
        "training": "Loss and accuracy by epoch.",
        "confusion": f"{shown}: confusion matrix at the model's threshold; shares are of each row.",
        "roc": "ROC: cracks found against false alarms, at every threshold.",
        "precision": "Precision and recall at every threshold.",
        "reliability": "Reliability: of the images with about one probability, the share that are cracks. "
        "On the dashed line probabilities can be taken at their word. Bars are 95 % intervals; "
        f"bins of fewer than {FEWEST_IN_BIN} images are left out. The error is the mean distance to "
        "the line.",
    }[kind]
