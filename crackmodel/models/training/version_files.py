"""The files of a new model version, and its card."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import TEST_OF, Card, Int8Record, SplitScore, Threshold, TrainingRecord
from crackmodel.models.datasets.duplicates import NEAR_DUPLICATE, refuse_two_labels
from crackmodel.models.datasets.inventory import describe_data, write_bad_files
from crackmodel.models.datasets.labelled import LabelledImages, read_tiles
from crackmodel.models.datasets.splits import Division, write_split
from crackmodel.models.evaluation.calibration import choose_threshold, fit_temperature
from crackmodel.models.evaluation.evaluation_page import write_evaluation_page
from crackmodel.models.evaluation.html_page import splits_table
from crackmodel.models.evaluation.metrics import EvaluatedSet, measure_set
from crackmodel.models.evaluation.scored_images import ScoredImages, score_images
from crackmodel.models.export.int8 import NOT_ASKED, pick_representative, write_int8
from crackmodel.models.inference.engines import LiteRTEngine, calibrate, log_odds
from crackmodel.models.inference.out_of_distribution import describe_training
from crackmodel.models.network import CLASS_NAMES, with_features
from crackmodel.models.preprocessing import RESIZE, TILE_EDGE
from crackmodel.models.registry.versions import INT8_MODEL, KERAS_MODEL, LITERT_MODEL, OOD_STATISTICS
from crackmodel.models.training.fit import Fitted
from crackmodel.models.training.recipe import Recipe
from crackmodel.models.training.split_comparison import beside_own

SPLIT: Final = "split.parquet"
BAD_FILES: Final = "bad_files.csv"
ARCHITECTURE: Final = "MobileNetV2 (alpha 1.0) at 160 px, global average pooling, Dense softmax [2]"
BACKBONE_CREDIT: Final = (
    "Backbone: MobileNetV2 ImageNet weights of Keras Applications (Apache-2.0); Sandler et al., "
    '"MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.'
)
RANDOM_SPLIT_LIMIT: Final = (
    "The split is random over images: where several show the same crack they are on both sides, and the "
    "validation and test figures are optimistic."
)
_PACKAGES: Final = (
    "crackmodel", "tensorflow", "keras", "ai-edge-litert", "numpy", "opencv-python-headless", "scikit-learn",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """What a training started from, for its card."""

    data: str
    recipe: Recipe
    weights: Path
    weights_sha256: str
    software: Mapping[str, str]
    command: str
    attribution: tuple[str, ...]


def write_version(
    staged: Path,
    fitted: Fitted,
    origin: Origin,
    test_sets: Mapping[str, LabelledImages],
    started: float,
    *,
    int8: bool = True,
) -> Card:
    """Write a trained network's files and compose its card.

    Temperature and both thresholds are chosen on the validation part alone.

    Args:
        staged: An empty folder.
        fitted: The trained network.
        origin: What it was trained from.
        test_sets: Further data sets to evaluate, by name.
        started: `time.monotonic()` at the training's start.
        int8: Quantise the network too; its file is written only if it passes.

    Returns:
        The card, still without name, version and files: `Registry.publish` knows these.

    Raises:
        DatasetError: A test set holds no picture.
        OSError: The folder cannot be written.
    """
    fitted.network.save(staged / KERAS_MODEL)
    (staged / LITERT_MODEL).write_bytes(fitted.litert)

    labels, split = fitted.images.labels, fitted.division.split
    validation = split.validation
    calibration = fit_temperature(log_odds(fitted.outputs[validation]), labels[validation])
    probabilities = calibrate(fitted.outputs, calibration.temperature)
    target_recall = origin.recipe.target_recall
    threshold = choose_threshold(labels[validation], probabilities[validation], target_recall=target_recall)

    scored = {
        part: _scored_part(fitted, origin.recipe, rows, probabilities)
        for part, rows in _parts(fitted).items()
    }
    engine = LiteRTEngine(fitted.litert, temperature=calibration.temperature)
    for name, images in test_sets.items():
        found = score_images(engine, images)
        refuse_two_labels(found.files, found.sha256, found.labels)
        scored[name] = found
    sets = {name: measure_set(found, threshold.value) for name, found in scored.items()}
    metrics = {name: found.metrics for name, found in sets.items()}
    quantised = Int8Record(False, NOT_ASKED)
    if int8:
        # Whole test sets: no validation, no shares of the test part.
        whole = {n: s for n, s in scored.items() if n != "validation" and not n.startswith(TEST_OF)}
        quantised = write_int8(
            staged / INT8_MODEL,
            with_features(fitted.network),
            _representative_tiles(fitted, origin.recipe.seed),
            whole,
            calibration.temperature,
            threshold.value,
        )
    splits = beside_own(fitted.splits, origin.recipe.split, fitted.division, metrics["test"])
    _write_evaluation(staged / "evaluation", origin, fitted, sets, threshold, quantised, splits)
    _write_split(staged / SPLIT, fitted)
    if fitted.dataset.bad:
        write_bad_files(staged / BAD_FILES, fitted.dataset.bad)
    distribution, ood = describe_training(fitted.features[split.train], fitted.features[validation])
    (staged / OOD_STATISTICS).write_bytes(distribution.to_bytes())

    return Card(
        name="",
        version="",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=ARCHITECTURE,
        class_names=CLASS_NAMES,
        input_edge=TILE_EDGE,
        preprocess=RESIZE,
        data=describe_data(
            origin.data,
            fitted.images,
            fitted.sha256,
            fitted.division,
            origin.recipe.seed,
            fitted.dataset,
        ),
        training=TrainingRecord(
            mode=origin.recipe.mode,
            command=origin.command,
            hyperparameters=fitted.hyperparameters,
            weights=origin.weights.name,
            weights_sha256=origin.weights_sha256,
            best_epoch=fitted.best_epoch,
            history=fitted.history,
            seconds=round(time.monotonic() - started, 1),
            parameters=int(fitted.network.count_params()),
            recipe=origin.recipe.as_record(),
        ),
        metrics=metrics,
        calibration=calibration,
        threshold=threshold,
        export_difference=fitted.difference,
        software=origin.software,
        attribution=(*origin.attribution, BACKBONE_CREDIT),
        limits=_limits(fitted.division),
        int8=quantised,
        ood=ood,
        splits=splits,
    )


def _parts(fitted: Fitted) -> dict[str, npt.NDArray[np.int64]]:
    """Name the rows to evaluate, by part and by data set."""
    images, split = fitted.images, fitted.division.split
    parts = {"validation": split.validation, "test": split.test}
    if len(images.members) > 1:
        member = images.member[split.test]
        own = {f"{TEST_OF}{each.name}": split.test[member == n] for n, each in enumerate(images.members)}
        parts |= {name: rows for name, rows in own.items() if len(rows)}
    return parts


def _representative_tiles(fitted: Fitted, seed: int) -> npt.NDArray[np.uint8]:
    images = fitted.images
    rows = pick_representative(images.labels, fitted.division.split.train, seed)
    return read_tiles(images.root, [images.files[row] for row in rows]).tiles


def _scored_part(
    fitted: Fitted, recipe: Recipe, rows: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]
) -> ScoredImages:
    images = fitted.images
    groups = None
    if recipe.group_by is not None:
        groups = fitted.division.groups
    elif not images.ungrouped[rows].all():
        groups = images.groups
    return ScoredImages(
        images.root,
        tuple(images.files[row] for row in rows),
        images.labels[rows],
        probabilities[rows],
        (),
        tuple(fitted.sha256[row] for row in rows),
        None if groups is None else tuple(groups[row] for row in rows),
    )


def _write_evaluation(
    directory: Path,
    origin: Origin,
    fitted: Fitted,
    sets: Mapping[str, EvaluatedSet],
    threshold: Threshold,
    int8: Int8Record,
    splits: Sequence[SplitScore],
) -> None:
    facts = [
        ("Training", origin.command),
        ("Images", f"{len(fitted.division.split.train):,} to learn from, of {len(fitted.sha256):,}"),
        *(("Left out", f"{len(bad):,} files, listed in {BAD_FILES}") for bad in [fitted.dataset.bad] if bad),
        ("Threshold", f"{threshold.value:g}: {threshold.chosen}"),
        ("int8", f"{'published' if int8.published else 'not published'}: {int8.reason}"),
    ]
    title, tables = f"Training on {origin.data}", [splits_table(splits)]
    write_evaluation_page(directory, title, facts, sets, fitted.litert, history=fitted.history, tables=tables)


def _write_split(path: Path, fitted: Fitted) -> None:
    images = fitted.images
    owners = [images.members[number] for number in images.member]
    labels = [
        owner.positive if label else owner.negative
        for owner, label in zip(owners, images.labels, strict=True)
    ]
    write_split(path, fitted.division, images.names, fitted.sha256, labels)


def _limits(division: Division) -> tuple[str, ...]:
    share = (
        f"{division.near_duplicates:.1%} of the test images look like an image of the training part "
        f"(cosine of backbone features from {NEAR_DUPLICATE} on)."
    )
    return (share,) if division.groups is not None else (RANDOM_SPLIT_LIMIT, share)


def installed_software() -> dict[str, str]:
    """Tell the versions of what decides how a model comes out."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
