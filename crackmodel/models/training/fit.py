"""The two ways of training a network on a data set, up to its LiteRT export."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelExportFailed
from crackmodel.models.card.card import Epoch
from crackmodel.models.datasets.inventory import take_stock
from crackmodel.models.datasets.labelled import Split, read_tiles
from crackmodel.models.datasets.several import TrainingImages
from crackmodel.models.datasets.splits import Division, SplitRule, divide_images
from crackmodel.models.export.litert import TOLERANCE, largest_difference, to_litert
from crackmodel.models.inference.engines import LiteRTModel
from crackmodel.models.network import attach_head, build_backbone, with_features
from crackmodel.models.training.checkpoints import TILES_FILE
from crackmodel.models.training.features import Features, extract_features, tile_features
from crackmodel.models.training.finetuning import FinetuneRecipe, finetune
from crackmodel.models.training.frozen_head import as_record, fit_head
from crackmodel.models.training.recipe import Recipe
from crackmodel.models.training.split_comparison import Trial, other_rule, try_splits
from crackmodel.models.training.tile_batches import map_tiles
from crackmodel.models.training.training_events import DatasetRead, EpochFinished, TrainingEvent

if TYPE_CHECKING:
    import keras

OnEvent = Callable[[TrainingEvent], None]

WARM_START_EPOCHS: Final = 3

_SAMPLE: Final = 64


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network with what its card has to tell.

    Attributes:
        network: The Keras model.
        litert: Its LiteRT export.
        labels: int8 [n] of the good files, in the data set's order.
        division: The three parts, and how they came about.
        outputs: Softmax outputs float32 [n, 2].
        features: float32 [n, 1280], the trained network's pooled features.
        sha256: Hash of each good file.
        kept: Each row's place among the data set's files.
        stock: What was read, and what was left out.
        history: Every epoch.
        best_epoch: The epoch whose weights were kept.
        hyperparameters: Of this mode.
        difference: Largest difference between Keras and what stands for it.
        trials: Heads on the backbone's features, by which the ways of splitting are compared.
    """

    network: Any
    litert: bytes
    labels: npt.NDArray[np.int8]
    division: Division
    outputs: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    sha256: tuple[str, ...]
    kept: npt.NDArray[np.int64]
    stock: DatasetRead
    history: tuple[Epoch, ...]
    best_epoch: int
    hyperparameters: Mapping[str, Any]
    difference: float
    trials: tuple[Trial, ...]

    @property
    def split(self) -> Split:
        """Rows of the three parts."""
        return self.division.split


def fit_network(
    images: TrainingImages,
    recipe: Recipe,
    weights: Path,
    workers: int | None,
    train_workers: int | None,
    gpus_per_worker: int,
    folder: Path,
    cache: Path,
    tell: OnEvent,
) -> Fitted:
    """Train a network by a recipe; the other arguments are those of `training.train_model`.

    `folder` is where tiles are kept and training workers meet; all of that is gone when this returns.
    `cache` is the folder of known features.

    Raises:
        DatasetError: A class without pictures, or too few images for the split.
        WeightsNotFound: The file does not hold the backbone's weights.
        ModelExportFailed: LiteRT, Keras and the head on the features do not agree.
        ModelError: There is no room for the tiles or the features.
        ClusterError: Ray failed.
    """
    backbone = build_backbone(weights)
    if recipe.finetune is None:
        return _fit_frozen(images, backbone, recipe, workers, cache, tell)
    # Workers that are still ending when a training is interrupted may write there.
    with tempfile.TemporaryDirectory(prefix=".workers-", dir=folder, ignore_cleanup_errors=True) as meeting:
        return _fit_all_layers(
            images,
            backbone,
            recipe.finetune,
            recipe.rule,
            train_workers,
            gpus_per_worker,
            Path(meeting),
            cache,
            tell,
        )


def _fit_frozen(
    images: TrainingImages,
    backbone: keras.Model,
    recipe: Recipe,
    workers: int | None,
    cache: Path,
    tell: OnEvent,
) -> Fitted:
    features = extract_features(images, to_litert(backbone), cache=cache, workers=workers, on_event=tell)
    labels = images.labels[features.kept]
    stock = take_stock(images, features.kept, features.sha256, features.bad)
    tell(stock)
    division = divide_images(recipe.rule, images, features.kept, features.sha256, features.values)
    split = division.split
    head, history = fit_head(
        features.values,
        labels,
        split,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        learning_rate=recipe.head_learning_rate,
        on_epoch=tell,
    )
    outputs = np.asarray(head.predict(features.values, batch_size=1024, verbose=0))
    network = attach_head(backbone, head)
    sample = _sample(labels, split)
    tiles = read_tiles(images.root, [images.files[row] for row in features.kept[sample]]).tiles
    litert = to_litert(with_features(network))
    apart = float(np.abs(LiteRTModel(litert).run(tiles) - outputs[sample]).max())
    if not apart <= TOLERANCE:
        raise ModelExportFailed(
            f"The assembled network and its head on the features differ by up to {apart:.2g}.",
            "Nothing was published; check that no file of the data set changed during training.",
        )
    return Fitted(
        network=network,
        litert=litert,
        labels=labels,
        division=division,
        outputs=outputs,
        features=features.values,
        sha256=features.sha256,
        kept=features.kept,
        stock=stock,
        history=tuple(history),
        best_epoch=recipe.epochs,
        hyperparameters={
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "optimizer": "Adam",
            "learning_rate": recipe.head_learning_rate,
            "trainable": "head",
        },
        difference=max(apart, largest_difference(network, litert, tiles)),
        trials=try_splits([other_rule(recipe.rule)], images, features, recipe.epochs, recipe.batch_size),
    )


def _fit_all_layers(
    images: TrainingImages,
    backbone: keras.Model,
    recipe: FinetuneRecipe,
    rule: SplitRule,
    train_workers: int | None,
    gpus_per_worker: int,
    folder: Path,
    cache: Path,
    tell: OnEvent,
) -> Fitted:
    chunk = map_tiles(images.root, images.files, folder / TILES_FILE)
    stock = take_stock(images, chunk.kept, chunk.sha256, chunk.bad)
    tell(stock)
    labels = images.labels[chunk.kept]
    frozen = tile_features(chunk.tiles, chunk.sha256, to_litert(backbone), cache=cache, on_event=tell)
    features = Features(frozen, chunk.kept, chunk.sha256, chunk.bad)
    division = divide_images(rule, images, chunk.kept, chunk.sha256, frozen)
    split = division.split
    # A head of random numbers would send its first, large gradients through the whole backbone.
    head, _ = fit_head(
        frozen,
        labels,
        split,
        epochs=WARM_START_EPOCHS,
        batch_size=recipe.batch_size,
        seed=rule.seed,
        on_epoch=lambda _: None,
    )
    network = attach_head(backbone, head)
    history: list[Epoch] = []

    def on_epoch(event: EpochFinished) -> None:
        history.append(as_record(event))
        tell(event)

    given: dict[str, Any] = {
        "train": split.train,
        "validation": split.validation,
        "recipe": recipe,
        "seed": rule.seed,
        "on_epoch": on_epoch,
    }
    if train_workers:
        from crackmodel.models.training.distributed.coordinator import finetune_on_ray

        best = finetune_on_ray(
            network,
            chunk.tiles,
            labels,
            workers=train_workers,
            gpus=gpus_per_worker,
            folder=folder,
            **given,
        ).best_epoch
    else:
        best = finetune(network, chunk.tiles, labels, **given)
    litert = to_litert(with_features(network))
    outputs, moved = LiteRTModel(litert).run_with_features(chunk.tiles)
    return Fitted(
        network=network,
        litert=litert,
        labels=labels,
        division=division,
        outputs=outputs,
        features=moved,
        sha256=chunk.sha256,
        kept=chunk.kept,
        stock=stock,
        history=tuple(history),
        best_epoch=best,
        hyperparameters=recipe.as_record() | ({"train_workers": train_workers} if train_workers else {}),
        difference=largest_difference(network, litert, chunk.tiles[_sample(labels, split)]),
        trials=try_splits([rule, other_rule(rule)], images, features),
    )


def _sample(labels: npt.NDArray[np.int8], split: Split) -> npt.NDArray[np.int64]:
    """Pick up to 64 validation rows, half of each class."""
    rows = split.validation
    picked = [rows[labels[rows] == label][: _SAMPLE // 2] for label in (0, 1)]
    return np.concatenate(picked)
