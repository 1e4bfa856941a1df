"""Training of a network in both modes, up to its LiteRT export."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelExportFailed
from crackmodel.models.card.card import Epoch, SplitScore
from crackmodel.models.datasets.inventory import summarise_dataset
from crackmodel.models.datasets.labelled import Split, read_tiles
from crackmodel.models.datasets.several import TrainingImages
from crackmodel.models.datasets.splits import Division, divide_images
from crackmodel.models.export.litert import TOLERANCE, largest_difference, to_litert
from crackmodel.models.inference.engines import LiteRTModel
from crackmodel.models.network import attach_head, build_backbone, with_features
from crackmodel.models.training.checkpoints import TILES_FILE
from crackmodel.models.training.features import extract_features, tile_features
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe, finetune
from crackmodel.models.training.frozen_head import fit_head
from crackmodel.models.training.recipe import Recipe
from crackmodel.models.training.split_comparison import fit_split, other_rule
from crackmodel.models.training.tile_batches import map_tiles
from crackmodel.models.training.training_events import DatasetRead, EpochFinished, TrainingEvent
from crackmodel.settings import TrainSettings

if TYPE_CHECKING:
    import keras

OnEvent = Callable[[TrainingEvent], None]

WARM_START_EPOCHS: Final = 3

_SAMPLE: Final = 64


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network with everything that its card needs.

    Attributes:
        network: The Keras model.
        litert: Its LiteRT export.
        images: The usable ones.
        sha256: The hash of each of these.
        division: The three parts, and how they came about.
        outputs: Softmax outputs float32 [n, 2].
        features: float32 [n, 1280], the trained network's pooled features.
        dataset: What was read, and what was left out.
        history: Every epoch.
        best_epoch: The epoch whose weights were kept.
        hyperparameters: Of this mode.
        difference: Largest difference between Keras and what stands for it.
        splits: Scores of heads on the backbone's features, for the comparison of splits.
    """

    network: Any
    litert: bytes
    images: TrainingImages
    sha256: tuple[str, ...]
    division: Division
    outputs: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    dataset: DatasetRead
    history: tuple[Epoch, ...]
    best_epoch: int
    hyperparameters: Mapping[str, Any]
    difference: float
    splits: tuple[SplitScore, ...]


def fit_network(
    images: TrainingImages,
    recipe: Recipe,
    weights: Path,
    settings: TrainSettings,
    folder: Path,
    cache: Path,
    on_event: OnEvent,
) -> Fitted:
    """Train a network by a recipe.

    Args:
        images: All that were listed.
        recipe: What decides how the model comes out.
        weights: Those of the backbone.
        settings: Workers and GPUs.
        folder: Where tiles lie and training workers meet; all of that is gone when this returns.
        cache: Folder of features that are known already.
        on_event: Called with every event.

    Raises:
        DatasetError: A class without pictures, or too few images for the split.
        WeightsNotFound: The file does not hold the backbone's weights.
        ModelExportFailed: LiteRT, Keras and the head on the features do not agree.
        ModelError: There is no room for the tiles or the features.
        ClusterError: Ray failed.
    """
    backbone = build_backbone(weights)
    if recipe.finetune is None:
        return _fit_frozen(images, backbone, recipe, settings.workers, cache, on_event)
    # Workers that are still ending when a training is interrupted may write there.
    with tempfile.TemporaryDirectory(prefix=".workers-", dir=folder, ignore_cleanup_errors=True) as meeting:
        return _fit_all_layers(
            images, backbone, recipe, recipe.finetune, settings, Path(meeting), cache, on_event
        )


def _fit_frozen(
    listed: TrainingImages,
    backbone: keras.Model,
    recipe: Recipe,
    workers: int | None,
    cache: Path,
    on_event: OnEvent,
) -> Fitted:
    found = extract_features(listed, to_litert(backbone), cache=cache, workers=workers, on_event=on_event)
    features, sha256 = found.values, found.sha256
    dataset = summarise_dataset(listed, found.kept, sha256, found.bad)
    on_event(dataset)
    images = listed.take(found.kept)
    division = divide_images(recipe.rule, images, sha256, features)
    steps: dict[str, Any] = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    rate = recipe.head_learning_rate
    head, history = fit_head(
        features, images.labels, division.split, **steps, seed=recipe.seed, learning_rate=rate,
        on_epoch=on_event,
    )  # fmt: skip
    outputs = np.asarray(head.predict(features, batch_size=1024, verbose=0))
    network = attach_head(backbone, head)
    sample = _sample(images.labels, division.split)
    tiles = read_tiles(images.root, [images.files[row] for row in sample]).tiles
    litert = to_litert(with_features(network))
    apart = float(np.abs(LiteRTModel(litert).run(tiles) - outputs[sample]).max())
    if not apart <= TOLERANCE:
        raise ModelExportFailed(
            f"The assembled network and its head on the features differ by up to {apart:.2g}.",
            "Nothing was published; check that no file of the data set changed during training.",
        )
    other = fit_split(other_rule(recipe.rule), images, sha256, features, recipe.target_recall, **steps)
    return Fitted(
        network=network,
        litert=litert,
        images=images,
        sha256=sha256,
        division=division,
        outputs=outputs,
        features=features,
        dataset=dataset,
        history=tuple(history),
        best_epoch=recipe.epochs,
        hyperparameters={**steps, "optimizer": "Adam", "learning_rate": rate, "trainable": "head"},
        difference=max(apart, largest_difference(network, litert, tiles)),
        splits=(other,),
    )


def _fit_all_layers(
    listed: TrainingImages,
    backbone: keras.Model,
    recipe: Recipe,
    layers: FinetuneRecipe,
    settings: TrainSettings,
    folder: Path,
    cache: Path,
    on_event: OnEvent,
) -> Fitted:
    chunk = map_tiles(listed.root, listed.files, folder / TILES_FILE)
    tiles, sha256, seed = chunk.tiles, chunk.sha256, recipe.seed
    dataset = summarise_dataset(listed, chunk.kept, sha256, chunk.bad)
    on_event(dataset)
    images = listed.take(chunk.kept)
    labels = images.labels
    frozen = tile_features(tiles, sha256, to_litert(backbone), cache=cache, on_event=on_event)
    division = divide_images(recipe.rule, images, sha256, frozen)
    split = division.split
    # A head of random numbers would send its first, large gradients through the whole backbone.
    head, _ = fit_head(
        frozen, labels, split, epochs=WARM_START_EPOCHS, batch_size=layers.batch_size, seed=seed
    )
    network = attach_head(backbone, head)
    history: list[Epoch] = []

    def on_epoch(event: EpochFinished) -> None:
        history.append(Epoch(event.epoch, event.loss, event.accuracy, event.val_loss, event.val_accuracy))
        on_event(event)

    examples = Examples(tiles, labels, split.train, split.validation, layers, seed)
    hyperparameters = layers.as_record()
    if workers := settings.train_workers:
        from crackmodel.models.training.distributed.coordinator import finetune_on_ray

        hyperparameters["train_workers"] = workers
        gpus = settings.gpus_per_worker
        best = finetune_on_ray(network, examples, on_epoch, workers=workers, gpus=gpus, folder=folder)
    else:
        best = finetune(network, examples, on_epoch)
    litert = to_litert(with_features(network))
    outputs, moved = LiteRTModel(litert).run_with_features(tiles)
    return Fitted(
        network=network,
        litert=litert,
        images=images,
        sha256=sha256,
        division=division,
        outputs=outputs,
        features=moved,
        dataset=dataset,
        history=tuple(history),
        best_epoch=best,
        hyperparameters=hyperparameters,
        difference=largest_difference(network, litert, tiles[_sample(labels, split)]),
        splits=tuple(
            fit_split(rule, images, sha256, frozen, recipe.target_recall)
            for rule in (recipe.rule, other_rule(recipe.rule))
        ),
    )


def _sample(labels: npt.NDArray[np.int8], split: Split) -> npt.NDArray[np.int64]:
    """Pick up to 64 validation rows, half of each class."""
    rows = split.validation
    picked = [rows[labels[rows] == label][: _SAMPLE // 2] for label in (0, 1)]
    return np.concatenate(picked)
