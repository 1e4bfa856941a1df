"""Training for real, on drawn cracks: both modes, the export, the registry, the refusals."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("tensorflow")

import keras

from crackmodel.errors import (
    DatasetError,
    ModelExportFailed,
    ModelNotFound,
    UsageError,
    WeightsNotFound,
)
from crackmodel.models.datasets.labelled import find_images, read_tiles
from crackmodel.models.export.litert import largest_difference, to_litert
from crackmodel.models.inference.loading import load_model
from crackmodel.models.network import (
    attach_head,
    build_backbone,
    build_head,
)
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.models.training.features import Features, chunk_features, extract_features
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe
from crackmodel.models.training.split_comparison import HEAD
from crackmodel.models.training.train import train_model
from crackmodel.models.training.training_events import (
    DatasetRead,
    EpochFinished,
    FeaturesExtracted,
    RecipeRepeated,
    TrainingEvent,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def events() -> list[TrainingEvent]:
    return []


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def frozen(
    drawn_dataset: Path,
    weights: Path,
    models: Path,
    events: list[TrainingEvent],
    tmp_path_factory: pytest.TempPathFactory,
) -> ModelVersion:
    """A frozen training over the drawn cracks and one broken file."""
    dataset = shutil.copytree(drawn_dataset, tmp_path_factory.mktemp("with-faults") / "slabs")
    (dataset / "cracked" / "broken.png").write_bytes(b"no picture")
    return train_model(
        dataset,
        weights=weights,
        models=models,
        workers=0,
        promote=True,
        test_sets={"again": drawn_dataset},
        attribution=["Drawn by hand"],
        on_event=events.append,
    )


@pytest.fixture(scope="module")
def finetuned(drawn_dataset: Path, weights: Path, models: Path, frozen: ModelVersion) -> ModelVersion:
    """One epoch over all layers, from a head on the features that the frozen training has kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crackmodel.models.training.features.chunk_features", None)
        patch.setattr("crackmodel.models.training.features._backbone", None)
        return train_model(
            drawn_dataset,
            mode="finetune",
            epochs=1,
            batch_size=8,
            weights=weights,
            models=models,
            name="tuned",
            int8=False,
        )


def _places(dataset: Path, **given: Path) -> tuple[Path, ...]:
    """Start a training and stop it where it has found its weights, registry and features."""
    found: list[Path] = []

    def fit_network(*arguments: Any) -> None:
        _, _, weights, _, staged, features, _ = arguments
        found.extend((staged.parent.parent, weights, features))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crackmodel.models.training.train.fit_network", fit_network)
        with pytest.raises(KeyboardInterrupt):
            train_model(dataset, **given)
    return tuple(found)


def test_places_come_from_the_environment_unless_they_are_given(
    drawn_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("models", "weights", "features")
    there, given = ([tmp_path / f"{kind}-{name}" for name in names] for kind in ("env", "given"))
    for name, place in zip(names, there, strict=True):
        monkeypatch.setenv(f"CRACKMODEL_{name.upper()}", str(place))
    for weights in (there[1], given[1]):
        weights.write_bytes(b"not read here")

    assert _places(drawn_dataset) == tuple(there)
    assert _places(drawn_dataset, **dict(zip(names, given, strict=True))) == tuple(given)


def test_version_has_everything_in_its_place(frozen: ModelVersion, models: Path) -> None:
    assert frozen.path == models / "slabs" / "v1"
    mistaken = [part for part, metrics in sorted(frozen.card.metrics.items()) if metrics.accuracy < 1]
    assert sorted(path.relative_to(frozen.path).as_posix() for path in frozen.path.rglob("*.*")) == [
        "bad_files.csv",
        "card.json",
        "evaluation/confusion_again.png",
        "evaluation/confusion_test.png",
        "evaluation/confusion_validation.png",
        "evaluation/index.html",
        "evaluation/looks_again.png",
        "evaluation/looks_test.png",
        "evaluation/looks_validation.png",
        "evaluation/precision_recall.png",
        "evaluation/reliability.png",
        "evaluation/right_again.png",
        "evaluation/right_test.png",
        "evaluation/right_validation.png",
        "evaluation/roc.png",
        "evaluation/training.png",
        *(f"evaluation/wrong_{part}.png" for part in mistaken),
        "model.keras",
        "model.tflite",
        "ood.npz",
        "split.parquet",
    ]
    frozen.verify()
    assert Registry(models).resolve("slabs@production") == frozen


def test_frozen_training_learns_drawn_cracks(frozen: ModelVersion) -> None:
    again = frozen.card.metrics["again"]

    assert again.images == 80
    assert again.accuracy >= 0.9
    history = frozen.card.training.history
    assert history[-1].loss < history[0].loss / 2


def test_card_tells_data_and_recipe(frozen: ModelVersion, weights: Path) -> None:
    card = frozen.card

    assert (card.data.train.images, card.data.validation.images, card.data.test.images) == (56, 19, 5)
    assert (card.data.positive, card.data.negative, card.data.unusable) == ("cracked", "plain", 1)
    assert card.training.command == 'train_model("slabs", mode="frozen", epochs=10, batch_size=16, seed=0)'
    assert card.training.weights == weights.name
    assert len(card.training.history) == card.training.best_epoch == 10
    assert card.attribution[0] == "Drawn by hand"
    assert "MobileNetV2" in card.attribution[-1]
    assert card.export_difference < 1e-4
    assert (card.ood.training_images, card.ood.threshold > 0) == (56, True)
    assert str(weights.parent) not in (frozen.path / "card.json").read_text()


def test_listener_hears_features_and_epochs(frozen: ModelVersion, events: list[TrainingEvent]) -> None:
    assert frozen.version == "v1"
    assert events[0] == FeaturesExtracted(81, 81)
    read = next(event for event in events if isinstance(event, DatasetRead))
    assert (read.usable, read.bad[0].file) == (80, "cracked/broken.png")
    assert read.fingerprints == {"slabs": frozen.card.data.sets[0].fingerprint}
    rows = (frozen.path / "bad_files.csv").read_text().splitlines()
    assert rows[0] == "image,reason"
    assert rows[1].startswith("cracked/broken.png,not_an_image")
    assert [event.epoch for event in events if isinstance(event, EpochFinished)] == list(range(1, 11))


def test_both_engines_give_the_same_probabilities(
    frozen: ModelVersion, models: Path, drawn_dataset: Path
) -> None:
    images = find_images(drawn_dataset)
    tiles = read_tiles(images.root, images.files[::4]).tiles

    litert = load_model("slabs", models).predict(tiles)
    tensorflow = load_model("slabs", models, engine="tensorflow").predict(tiles)

    assert litert.std() > 0.1
    np.testing.assert_allclose(litert, tensorflow, atol=1e-4)
    assert load_model("slabs", models, engine="tensorflow").predict(tiles[:0]).shape == (0,)


def test_same_training_gives_the_same_model(
    drawn_dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"weights": weights, "models": tmp_path, "workers": 0, "int8": False}
    told: list[TrainingEvent] = []
    moved = shutil.copytree(drawn_dataset, tmp_path / "elsewhere" / "tiles")
    (moved / "plain" / "00.png").unlink()

    def extract(*args: Any) -> Features:
        random.random()  # as Ray does when it starts
        return chunk_features(*args)

    monkeypatch.setattr("crackmodel.models.training.features.chunk_features", extract)
    one = train_model(drawn_dataset, epochs=1, seed=3, batch_size=8, **given)
    monkeypatch.setattr("crackmodel.models.training.features.chunk_features", None)  # the features are there
    two = train_model(drawn_dataset, epochs=1, seed=3, batch_size=8, **given)
    like = train_model(drawn_dataset, like="slabs@v1", on_event=told.append, **given)
    other = train_model(moved, like=one, seed=4, on_event=told.append, **given)

    assert [version.reference for version in (two, like, other)] == [f"slabs@v{n}" for n in (2, 3, 4)]
    assert one.sha256 == two.sha256 == like.sha256 != other.sha256
    for same in (two, like):
        assert (same.card.metrics, same.card.splits) == (one.card.metrics, one.card.splits)
        assert same.card.data == one.card.data
        assert same.card.training.recipe == one.card.training.recipe
    assert other.card.training.recipe == {**one.card.training.recipe, "seed": 4}
    assert other.card.training.recipe["batch_size"] == 8
    assert [event for event in told if isinstance(event, RecipeRepeated)] == [
        RecipeRepeated("slabs@v1", ()),
        RecipeRepeated("slabs@v1", ("the images, names or labels of tiles are not those of slabs",)),
    ]


def test_grouped_training_saves_its_split(drawn_dataset: Path, weights: Path, tmp_path: Path) -> None:
    version = train_model(
        drawn_dataset,
        split="grouped",
        group_by=r"/(\d)",
        target_recall=0.9,
        epochs=1,
        weights=weights,
        models=tmp_path,
        workers=0,
        int8=False,
    )

    rows = pq.read_table(version.path / "split.parquet").to_pylist()
    assert len(rows) == 80
    assert len({row["group"] for row in rows}) == 4 == len({(row["group"], row["part"]) for row in rows})
    data = version.card.data
    assert (data.groups, data.split) == (4, r"grouped by /(\d), 70:24:6")
    assert "group_by" in version.card.training.command
    assert version.card.training.command.endswith("target_recall=0.9)")
    assert version.card.threshold.target_recall == 0.9
    page = (version.path / "evaluation" / "index.html").read_text()
    assert "recall of 0.9" in page
    assert "test by group" in page
    assert "Test part of either split" in page
    ours, other = version.card.splits
    assert (ours.kind, ours.test, other.kind) == ("grouped", version.card.metrics["test"], "random")
    assert other.test is not None
    assert other.test.images == 5
    assert sum(row["part"] == "test" for row in rows) == data.test.images
    version.verify()


def test_picture_in_both_classes_stops_a_training(drawn_dataset: Path, weights: Path, tmp_path: Path) -> None:
    dataset = shutil.copytree(drawn_dataset, tmp_path / "slabs")
    shutil.copy(dataset / "plain" / "00.png", dataset / "cracked" / "copy.png")

    with pytest.raises(DatasetError, match=r"cracked/copy\.png = plain/00\.png"):
        train_model(dataset, weights=weights, models=tmp_path / "models", workers=0)


def test_finetuning_moves_the_layers_that_learn_but_no_statistics(
    finetuned: ModelVersion, weights: Path
) -> None:
    before = build_backbone(weights).get_layer("mobilenetv2")
    after = keras.saving.load_model(finetuned.path / "model.keras").get_layer("mobilenetv2")
    first = finetuned.card.training.hyperparameters["first_trained"]
    names = [layer.name for layer in before.layers]
    fixed = set(names[: next(place for place, name in enumerate(names) if name.startswith(first))])
    assert len(fixed) == 18

    moved: dict[str, list[bool]] = {}
    for old, new in zip(before.variables, after.variables, strict=True):
        assert old.path == new.path
        *_, layer, kind = old.path.split("/")
        learns = layer not in fixed and not kind.startswith("moving_")
        moved.setdefault(f"{kind} {learns}", []).append(bool(np.any(old.numpy() != new.numpy())))
    assert len(moved) == 8
    for kind, changes in moved.items():
        assert (np.mean(changes) > 0.95) if kind.endswith("True") else not any(changes), kind


def test_finetuned_model_is_published_like_any_other(finetuned: ModelVersion, models: Path) -> None:
    card = finetuned.card

    assert Registry(models).resolve("tuned") == finetuned
    assert card.training.mode == "finetune"
    assert card.training.hyperparameters["augmentation"]["jpeg"] > 0
    assert (len(card.training.history), card.training.best_epoch) == (1, 1)
    assert [(each.kind, each.model) for each in card.splits] == [("random", HEAD), ("grouped", HEAD)]
    assert card.metrics["validation"].images == 19


def test_augmented_batch_follows_row_and_epoch_not_the_batch(drawn_dataset: Path) -> None:
    images = find_images(drawn_dataset)
    tiles = read_tiles(images.root, images.files).tiles
    part = np.arange(0, 80, 2)
    from crackmodel.models.augmentation.variations import Augmentation

    recipe = FinetuneRecipe(augmentation=Augmentation(plain=0))
    examples = Examples(tiles, images.labels, part, part, recipe, seed=1)

    def batch(rows: list[int], epoch: int) -> np.ndarray:
        made, wanted = examples.augmented(np.array(rows), part, epoch)
        np.testing.assert_array_equal(wanted.argmax(axis=1), images.labels[rows])
        return made

    np.testing.assert_array_equal(batch([0, 2, 60], 0)[2], batch([60], 0)[0])
    assert (batch([60], 0) != batch([60], 1)).any()


def test_features_come_in_order_whoever_computes_them(
    drawn_dataset: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, embedded_ray: None
) -> None:
    monkeypatch.setattr("crackmodel.models.training.features.CHUNK", 7)
    images = find_images(drawn_dataset)
    backbone = build_backbone(weights)
    litert = to_litert(backbone)
    told: list[FeaturesExtracted] = []

    on_ray = extract_features(images, litert, on_event=told.append)
    inline = extract_features(images, litert, workers=0)
    monkeypatch.setattr("crackmodel.models.training.features.joins_cluster", lambda: False)
    monkeypatch.setattr("crackmodel.models.training.features._run_on_ray", None)
    in_threads = extract_features(images, litert, workers=3)

    np.testing.assert_array_equal(on_ray.values, inline.values)
    np.testing.assert_array_equal(in_threads.values, inline.values)
    assert in_threads.sha256 == inline.sha256
    assert on_ray.kept.tolist() == list(range(80))
    assert on_ray.sha256 == inline.sha256
    assert told[-1] == FeaturesExtracted(80, 80)
    tiles = read_tiles(images.root, images.files[:8]).tiles
    expected = np.asarray(backbone(tiles.astype(np.float32)))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(inline.values[:8], expected, atol=1e-4 * np.abs(expected).max())


def test_export_that_differs_is_found(weights: Path, drawn_dataset: Path) -> None:
    network = attach_head(build_backbone(weights), build_head())
    litert = to_litert(network)
    tiles = read_tiles(drawn_dataset, find_images(drawn_dataset).files[::10]).tiles
    assert largest_difference(network, litert, tiles) < 1e-5
    kernel, bias = network.get_layer("verdict").get_weights()
    network.get_layer("verdict").set_weights([kernel, bias + np.array([0.01, 0])])

    with pytest.raises(ModelExportFailed, match="8 tiles LiteRT and Keras differ"):
        largest_difference(network, litert, tiles)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"mode": "hot"}, "mode='hot'"),
        ({"split": "alphabetic"}, "split='alphabetic'"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 0}, "batch-size=0"),
        ({"target_recall": 95}, "target-recall=95"),
        ({"name": "../up"}, "does not name"),
        ({"name": "builtin"}, "ships"),
    ],
)
def test_senseless_arguments_are_refused_before_any_work(
    tmp_path: Path, wrong: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        train_model(tmp_path / "nowhere", models=tmp_path / "models", **wrong)  # type: ignore[arg-type]


def test_failed_training_leaves_no_version(tmp_path: Path, drawn_dataset: Path, weights: Path) -> None:
    for folder in ("cracked", "plain"):
        (tmp_path / "few" / folder).mkdir(parents=True)
        shutil.copy(drawn_dataset / folder / "00.png", tmp_path / "few" / folder)

    with pytest.raises(DatasetError, match="2 images"):
        train_model(tmp_path / "few", weights=weights, models=tmp_path / "models", workers=0)
    with pytest.raises(WeightsNotFound):
        train_model(drawn_dataset, weights=tmp_path / "none.h5", models=tmp_path / "models", workers=0)
    with pytest.raises(DatasetError, match="nowhere"):
        train_model(
            drawn_dataset, weights=weights, models=tmp_path / "models", test_sets={"a": tmp_path / "nowhere"}
        )
    with pytest.raises(ModelNotFound):
        Registry(tmp_path / "models").resolve("few")
    assert not list((tmp_path / "models").rglob(".staging*"))
