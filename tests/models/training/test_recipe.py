"""Recipes: what is given goes before what a card holds, and a card that cannot be repeated says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from crackmodel.errors import ModelError, ModelNotFound, UsageError
from crackmodel.models.card.card import Card, SetRecord, card_from_json, card_to_json
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.models.training.finetuning import FinetuneRecipe
from crackmodel.models.training.recipe import Recipe, choose_recipe, differences, recipe_of
from crackmodel.models.training.train import train_model
from crackmodel.models.training.training_events import DatasetRead
from crackmodel.settings import TrainSettings

TUNED = {"mode": "finetune", "split": "grouped", "group_by": "(.)", "seed": 7, "epochs": 3, "batch_size": 32}


def _version(card: Card, recipe: dict[str, object]) -> ModelVersion:
    """A version whose card went through JSON, as one on disk did."""
    training = dataclasses.replace(card.training, recipe=recipe)
    told = card_from_json(card_to_json(dataclasses.replace(card, training=training)))
    return ModelVersion("walls", "v1", Path("nowhere"), told)


def _choose(like: ModelVersion | None, given: dict[str, object]) -> Recipe:
    return choose_recipe(like, TrainSettings.read(**given))


def test_reference_recipe_is_the_default() -> None:
    assert _choose(None, {"mode": None, "seed": None}) == Recipe("frozen", "random", None, 0, 10, 16)


def test_fine_tuning_takes_the_batches_that_its_learning_rate_goes_with() -> None:
    tuned = _choose(None, {"mode": "finetune"})

    assert tuned.finetune is not None
    assert tuned.batch_size == tuned.finetune.batch_size == FinetuneRecipe().batch_size == 32
    assert _choose(None, {"mode": "finetune", "batch_size": 8}).batch_size == 8


def test_recipe_in_a_card_is_repeated_to_the_last_number(card: Card) -> None:
    first = _choose(None, TUNED)
    assert first.finetune is not None
    changed = dataclasses.replace(
        first,
        finetune=dataclasses.replace(
            first.finetune,
            learning_rate=0.125,
            precision="mixed",
            augmentation=dataclasses.replace(first.finetune.augmentation, zoom=0.75),
        ),
    )

    assert _choose(_version(card, changed.as_record()), {}) == changed


def test_what_is_given_goes_before_the_card(card: Card) -> None:
    like = _version(card, _choose(None, TUNED).as_record())

    again = _choose(like, {"epochs": 5, "seed": 0, "positive": ("riss",)})
    assert (again.epochs, again.seed, again.positive, again.batch_size) == (5, 0, ("riss",), 32)
    assert again.finetune is not None
    assert again.finetune.epochs == 5
    assert _choose(like, {"precision": "mixed"}).finetune.precision == "mixed"
    assert _choose(like, {"split": "random"}).group_by is None
    assert _choose(like, {"mode": "frozen"}).finetune is None


def test_what_makes_no_sense_together_is_refused(card: Card) -> None:
    like = _version(card, _choose(None, TUNED).as_record())

    with pytest.raises(UsageError, match="random split has no groups"):
        _choose(like, {"split": "random", "group_by": "(.)"})


def test_card_without_a_recipe_is_refused(card: Card) -> None:
    with pytest.raises(ModelError, match=r"walls@v1 is older than recipes"):
        recipe_of(_version(card, {}))
    with pytest.raises(ModelError, match="it has none"):
        train_model("nowhere", like=_version(card, {}))


def test_recipe_of_other_hyper_parameters_is_refused(card: Card) -> None:
    record = _choose(None, TUNED).as_record()
    older = json.loads(json.dumps(record))
    del older["finetune"]["augmentation"]["zoom"]
    newer = record | {"optimizer": "Lion"}
    broken = record | {"seed": "many"}

    for other in (older, newer):
        with pytest.raises(ModelError, match="another crackmodel"):
            recipe_of(_version(card, other))
    with pytest.raises(ModelError, match=r"recipe\.seed: Input should be a valid integer"):
        recipe_of(_version(card, broken))


def test_unknown_model_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        train_model(tmp_path, like="walls@v9", models=tmp_path / "models")
    assert Registry(tmp_path / "models").names() == []


def test_differences_are_told_by_name(card: Card) -> None:
    part = card.data.train
    sets = tuple(SetRecord(name, f"{name}-1", "a", "b", 0, part, part, part) for name in ("deck", "walls"))
    several = dataclasses.replace(card, data=dataclasses.replace(card.data, sets=sets))
    versions = {**card.software, "keras": "3.1"}
    like = dataclasses.replace(several, software={**card.software, "keras": "3.0"})

    def told(fingerprints: dict[str, str], weights: str = "1" * 64) -> tuple[str, ...]:
        return differences(like, DatasetRead(9, (), fingerprints), weights, versions)

    assert told({"walls": "walls-1", "deck": "deck-1"}) == ("keras is 3.1, was 3.0",)
    assert told({"walls": "walls-2", "pier": "x"}, "2" * 64) == (
        "the data set deck is missing",
        "the data set pier is new",
        "the images, names or labels of walls are others",
        "the ImageNet weights are not none.h5",
        "keras is 3.1, was 3.0",
    )
    one = dataclasses.replace(like, data=card.data)
    assert differences(one, DatasetRead(9, (), {"x": "0" * 64}), "1" * 64, card.software) == ()
