"""The recipe of a training: all settings that decide its result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crackmodel.errors import ModelError, UsageError
from crackmodel.models.card.card import Card, record_from_json
from crackmodel.models.datasets.splits import SplitRule
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.models.training.finetuning import FinetuneRecipe
from crackmodel.models.training.frozen_head import HEAD_LEARNING_RATE
from crackmodel.models.training.training_events import DatasetRead
from crackmodel.settings import SplitKind, TrainSettings

_DECIDING_PACKAGES: Final = ("tensorflow", "keras", "numpy", "opencv-python-headless", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained; the fields are arguments of `training.train_model`.

    Attributes:
        mode: `frozen` or `finetune`.
        split: `random` or `grouped`.
        group_by: See `splits.SplitRule`.
        seed: Of the split, the first weights, the order and the augmentation.
        epochs: Passes over the training part.
        batch_size: Images a step.
        head_learning_rate: Adam's, for the head on frozen features.
        target_recall: What the threshold is chosen for: see `calibration.choose_threshold`.
        positive: Each data set's class of cracks.
        finetune: How the layers are trained; null in mode `frozen`.
    """

    mode: str = "frozen"
    split: str = "random"
    group_by: str | None = None
    seed: int = 0
    epochs: int = 10
    batch_size: int = 16
    head_learning_rate: float = HEAD_LEARNING_RATE
    target_recall: float | None = None
    positive: tuple[str, ...] = ()
    finetune: FinetuneRecipe | None = None

    @property
    def rule(self) -> SplitRule:
        """How the data are split."""
        kind: SplitKind = "grouped" if self.split == "grouped" else "random"
        return SplitRule(kind, self.group_by, self.seed)

    def as_record(self) -> dict[str, Any]:
        """Everything as plain JSON values, for a model's card."""
        record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return record


def choose_recipe(like: ModelVersion | None, settings: TrainSettings) -> Recipe:
    """Merge settings, another model's recipe and the defaults.

    Args:
        like: The other model.
        settings: Those that are fields of `Recipe`, and the precision; None means "not given".

    Returns:
        A recipe that makes sense.

    Raises:
        UsageError: It makes none.
        ModelError: The other model's card has no recipe, or one that this software cannot repeat.
    """
    base = Recipe() if like is None else recipe_of(like)
    fields = {field.name for field in dataclasses.fields(Recipe)}
    given = settings.model_dump(include=fields, exclude_none=True)
    if settings.positive is not None:
        given["positive"] = tuple(settings.positive)
    precision = settings.precision
    if given.get("mode", base.mode) == "finetune" and base.finetune is None:
        given.setdefault("batch_size", FinetuneRecipe().batch_size)  # what its learning rate goes with
    if given.get("split", base.split) == "random" and "group_by" not in given:
        given["group_by"] = None
    recipe = dataclasses.replace(base, **given)
    recipe.rule.check()
    if precision == "mixed" and recipe.mode == "frozen":
        raise UsageError(
            f"A training of mode {recipe.mode} has no precision {precision!r}.",
            "Take --mode finetune, or leave --precision out.",
        )
    if recipe.mode == "frozen":
        return dataclasses.replace(recipe, finetune=None)
    layers = dataclasses.replace(
        recipe.finetune or FinetuneRecipe(), epochs=recipe.epochs, batch_size=recipe.batch_size
    )
    if precision is not None:
        layers = dataclasses.replace(layers, precision=precision)
    return dataclasses.replace(recipe, finetune=layers)


def recipe_of(version: ModelVersion) -> Recipe:
    """Read the recipe in a model's card.

    Raises:
        ModelError: There is none, or it is of another software whose hyper-parameters were others.
    """
    record = dict(version.card.training.recipe)
    remedy = "Give the options yourself: they are in the card, under training.hyperparameters and data."
    if not record:
        raise ModelError(f"The card of {version.reference} is older than recipes; it has none.", remedy)
    try:
        recipe = record_from_json(Recipe, json.dumps(record), "recipe")
    except ValueError as fault:
        raise ModelError(f"The recipe of {version.reference} cannot be read: {fault}.", remedy) from fault
    if recipe.as_record() != record:
        raise ModelError(
            f"The recipe of {version.reference} is that of another crackmodel "
            f"({version.card.software.get('crackmodel', 'of unknown version')}), whose hyper-parameters "
            f"were others.",
            remedy,
        )
    return recipe


def differences(
    like: Card, dataset: DatasetRead, weights_sha256: str, software: Mapping[str, str]
) -> tuple[str, ...]:
    """List differences from a model's training besides the recipe.

    Args:
        like: The model's card.
        dataset: The images now.
        weights_sha256: Of the ImageNet weights now.
        software: Versions of what is used now.
    """
    before = {each.name: each.fingerprint for each in like.data.sets}
    before = before or {like.data.name: like.data.fingerprint}
    now = dataset.fingerprints
    found = []
    if len(before) == len(now) == 1:
        (old,), (new,) = before, now
        if before[old] != now[new]:
            found.append(f"the images, names or labels of {new} are not those of {old}")
    else:
        found += [f"the data set {name} is missing" for name in before if name not in now]
        found += [f"the data set {name} is new" for name in now if name not in before]
        found += [
            f"the images, names or labels of {name} are others"
            for name in before
            if name in now and before[name] != now[name]
        ]
    if like.training.weights_sha256 != weights_sha256:
        found.append(f"the ImageNet weights are not {like.training.weights}")
    found += [
        f"{package} is {software[package]}, was {like.software[package]}"
        for package in _DECIDING_PACKAGES
        if package in software and like.software.get(package, software[package]) != software[package]
    ]
    return tuple(found)
