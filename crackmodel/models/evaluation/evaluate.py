"""Evaluation of a model on labelled images, as one HTML page.

Nothing is chosen here: temperature and threshold are those of the model's card.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crackmodel.errors import UsageError
from crackmodel.models.datasets.duplicates import refuse_two_labels
from crackmodel.models.datasets.grouped_split import groups_by
from crackmodel.models.datasets.labelled import find_images, local_dataset
from crackmodel.models.datasets.splits import SplitRule
from crackmodel.models.evaluation.evaluation_page import PAGE, write_evaluation_page
from crackmodel.models.evaluation.metrics import EvaluatedSet, measure_groups, measure_set
from crackmodel.models.evaluation.scored_images import score_images
from crackmodel.models.inference.model_file import build_engine, read_model_file
from crackmodel.models.network import require_installed
from crackmodel.models.registry.versions import LITERT_MODEL, ModelVersion

RECORD: Final = "evaluation.json"
PREDICTIONS: Final = "predictions.csv"

_PLAIN_NAMES: Final = frozenset({"train", "test", "validation", "val", "valid", "data", "images"})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate_model` found.

    Attributes:
        model: `name@version`.
        sha256: Of the model's `model.tflite`.
        threshold: The model's.
        sets: By data set's name.
        directory: The folder with the page, the pictures and the predictions.
    """

    model: str
    sha256: str
    threshold: float
    sets: Mapping[str, EvaluatedSet]
    directory: Path

    @property
    def page(self) -> Path:
        """The page that shows everything."""
        return self.directory / PAGE

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single images, ready for JSON."""
        return {
            "model": self.model,
            "sha256": self.sha256,
            "threshold": self.threshold,
            "sets": {
                name: {
                    **dataclasses.asdict(found.metrics),
                    "groups": {
                        group: dataclasses.asdict(own)
                        for group, own in measure_groups(found.scored, self.threshold).items()
                    },
                    "unusable": [dataclasses.asdict(bad) for bad in found.scored.bad],
                }
                for name, found in self.sets.items()
            },
            "directory": str(self.directory),
            "page": str(self.page),
        }


def evaluate_model(
    version: ModelVersion,
    datasets: Sequence[Path | str],
    *,
    positive: str | None = None,
    group_by: str | None = None,
    out: Path | str | None = None,
) -> Evaluation:
    """Evaluate a model version on labelled images and write the page.

    Args:
        version: From `Registry.resolve`.
        datasets: Folders of two classes or manifests: see `labelled.find_images`.
        positive: The class of cracks; recognised by its name if None.
        group_by: Regular expression whose first capture group, found in an image's path, names its photograph
            or structure: metrics by group, and intervals over whole groups. None takes the data set's own
            groups.
        out: The folder to write, `evaluation-<model>-<dataset>` if None. What an earlier evaluation left
            there is replaced; a folder with anything else in it is not touched.

    Returns:
        Metrics with intervals by data set, and where the page is.

    Raises:
        UsageError: The folder holds something else, `group_by` is no such expression, or
            scikit-learn or matplotlib is not installed.
        DatasetError: A data set is none, holds no picture, or has a picture in both classes.
        ModelCorrupt: The model's file is missing or has changed.
    """
    require_installed("Evaluating", "sklearn", "matplotlib")
    if group_by is not None:
        SplitRule("grouped", group_by).check()
    named = name_datasets(datasets)
    listed = {name: find_images(path, positive) for name, path in named.items()}
    directory = Path(out).expanduser() if out else Path(_default_folder(version.reference, list(named)))
    _check_own(directory)
    engine = build_engine(read_model_file(version), threads=min(4, os.cpu_count() or 1))
    sets = {}
    for name, images in listed.items():
        scored = score_images(engine, images)
        if group_by is not None:
            scored = dataclasses.replace(scored, groups=tuple(groups_by(group_by, scored.files)))
        refuse_two_labels(scored.files, scored.sha256, scored.labels)
        sets[name] = measure_set(scored, version.threshold)
    found = Evaluation(version.reference, version.sha256, version.threshold, sets, directory)
    _write(found, version.read_file(LITERT_MODEL))
    return found


def name_datasets(paths: Sequence[Path | str]) -> dict[str, Path | str]:
    """Name data sets by their folders.

    Raises:
        UsageError: Two of them get the same name.
        DatasetError: One is in an object store.
    """
    named: dict[str, Path | str] = {}
    for given in paths:
        path = local_dataset(given).resolve()
        own = path.name if path.is_dir() else path.stem
        name = f"{path.parent.name}/{own}" if own.lower() in _PLAIN_NAMES and path.parent.name else own
        if name in named:
            raise UsageError(
                f"The data sets {named[name]} and {given} would both be called {name!r}.",
                "Give each data set once, or rename one of the folders.",
            )
        named[name] = given
    return named


def _write(found: Evaluation, model: bytes) -> None:
    _clear(found.directory)
    facts = [
        ("Model", f"{found.model}, SHA-256 {found.sha256[:12]}"),
        ("Threshold", f"{found.threshold:g}"),
        ("Data", ", ".join(found.sets)),
        *((f"Left out of {name}", f"{len(each.scored.bad):,} files that are no pictures")
          for name, each in found.sets.items() if each.scored.bad),
    ]  # fmt: skip
    title = f"{found.model} on {', '.join(found.sets)}"
    pictures = write_evaluation_page(found.directory, title, facts, found.sets, model)
    _write_predictions(found)
    record = found.as_dict() | {"files": [*pictures, PAGE, PREDICTIONS]}
    record.pop("directory"), record.pop("page")
    (found.directory / RECORD).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def _write_predictions(found: Evaluation) -> None:
    path = found.directory / PREDICTIONS
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(["dataset", "image", "label", "crack_probability", "verdict"])
        for name, each in found.sets.items():
            scored = each.scored
            for image, label, probability in zip(
                scored.files, scored.labels, scored.probabilities, strict=True
            ):
                verdict = "crack" if probability >= found.threshold else "clear"
                rows.writerow([name, image, "crack" if label else "clear", f"{probability:.6f}", verdict])


def _default_folder(reference: str, names: list[str]) -> str:
    parts = [reference.replace("@", "-"), *names]
    return "evaluation-" + "-".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part) for part in parts)


def _check_own(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file.", "Name a folder with --out.")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / RECORD).is_file():
        raise UsageError(
            f"The folder {directory} holds something that is not an evaluation.",
            "Name an empty or a new folder with --out.",
        )


def _clear(directory: Path) -> None:
    """Remove the pictures of an earlier evaluation."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        earlier = json.loads((directory / RECORD).read_bytes())["files"]
        names = [name for name in earlier if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in names:
        (directory / name).unlink(missing_ok=True)
