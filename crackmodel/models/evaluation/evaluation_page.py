"""The page of an evaluation: its pictures with captions, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from crackmodel.models.card.card import Epoch
from crackmodel.models.card.metric_names import number_text
from crackmodel.models.evaluation.examples import draw_examples
from crackmodel.models.evaluation.figures import draw_evaluation
from crackmodel.models.evaluation.html_page import Table, metrics_table, write_page
from crackmodel.models.evaluation.metrics import EvaluatedSet, measure_groups

PAGE: Final = "index.html"

_MOST_GROUPS: Final = 50


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
    pictures = draw_evaluation(directory, sets, history)
    for name, found in sets.items():
        pictures += draw_examples(directory, name, found, model)
    by_group = (group_table(name, found) for name, found in sets.items())
    shown = [
        metrics_table({name: found.metrics for name, found in sets.items()}),
        *tables,
        *(table for table in by_group if table),
    ]
    write_page(directory / PAGE, title, facts, shown, pictures)
    return [picture.path.name for picture in pictures]


def group_table(name: str, found: EvaluatedSet) -> Table | None:
    """Tabulate the metrics by group, most mistakes first, if there are groups."""
    groups = measure_groups(found.scored, found.metrics.threshold)
    if not groups:
        return None
    worst = sorted(groups.items(), key=lambda item: (-item[1].mistakes, item[0]))[:_MOST_GROUPS]
    left_out = (
        f", the {_MOST_GROUPS} of {len(groups):,} with the most mistakes" if len(groups) > len(worst) else ""
    )
    columns = {
        "images": "images", "cracks": "cracks", "false_negatives": "cracks missed",
        "false_positives": "false alarms", "accuracy": "accuracy", "precision": "precision",
        "recall": "recall", "auroc": "AUROC",
    }  # fmt: skip
    rows = [[group, *(number_text(getattr(own, field)) for field in columns)] for group, own in worst]
    return Table(f"{name} by group{left_out}", ["group", *columns.values()], rows)
