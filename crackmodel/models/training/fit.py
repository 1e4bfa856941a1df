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
from crackmodel.models.card.card import Epoch
from crackmodel.models.datasets.inventory import summarise_dataset
from crackmodel.models.datasets.labelled import Split, read_tiles
from crackmodel.models.datasets.several import TrainingImages
from crackmodel.models.datasets.splits import Division, SplitRule, divide_images
from crackmodel.models.export.litert import TOLERANCE, largest_difference, to_litert
from crackmodel.models.inference.engines import LiteRTModel
from crackmodel.models.network import attach_head, build_backbone, with_features
from crackmodel.models.training.checkpoints import TILES_FILE
from crackmodel.models.training.features import Features, extract_features, tile_features
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe, finetune
from crackmodel.models.training.frozen_head import fit_head
from crackmodel.models.training.recipe import Recipe
from crackmodel.models.training.split_comparison import SplitFit, fit_split, other_rule
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
        labels: int8 [n] of the good files, in the data set's order.
        division: The three parts, and how they came about.
        outputs: Softmax outputs float32 [n, 2].
        features: float32 [n, 1280], the trained network's pooled features.
        sha256: Hash of each good file.
        kept: Each row's place among the data set's files.
        dataset: What was read, and what was left out.
        history: Every epoch.
        best_epoch: The epoch whose weights were kept.
        hyperparameters: Of this mode.
        difference: Largest difference between Keras and what stands for it.
        split_fits: Heads on the backbone's features, for the comparison of splits.
    """

    network: Any
    litert: bytes
    labels: npt.NDArray[np.int8]
    division: Division
    outputs: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    sha256: tuple[str, ...]
    kept: npt.NDArray[np.int64]
    dataset: DatasetRead
    history: tuple[Epoch, ...]
    best_epoch: int
    hyperparameters: Mapping[str, Any]
    difference: float
    split_fits: tuple[SplitFit, ...]

    @property
    def split(self) -> Split:
        """Rows of the three parts."""
        return self.division.split


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
            images, backbone, recipe.finetune, recipe.rule, settings, Path(meeting), cache, on_event
        )


def _fit_frozen(
    images: TrainingImages,
    backbone: keras.Model,
    recipe: Recipe,
    workers: int | None,
    cache: Path,
    on_event: OnEvent,
) -> Fitted:
    features = extract_features(images, to_litert(backbone), cache=cache, workers=workers, on_event=on_event)
    labels = images.labels[features.kept]
    dataset = summarise_dataset(images, features.kept, features.sha256, features.bad)
    on_event(dataset)
    division = divide_images(recipe.rule, images, features.kept, features.sha256, features.values)
    steps: dict[str, Any] = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    rate = recipe.head_learning_rate
    head, history = fit_head(
        features.values, labels, division.split, **steps, seed=recipe.seed, learning_rate=rate,
        on_epoch=on_event,
    )  # fmt: skip
    outputs = np.asarray(head.predict(features.values, batch_size=1024, verbose=0))
    network = attach_head(backbone, head)
    sample = _sample(labels, division.split)
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
        dataset=dataset,
        history=tuple(history),
        best_epoch=recipe.epochs,
        hyperparameters={**steps, "optimizer": "Adam", "learning_rate": rate, "trainable": "head"},
        difference=max(apart, largest_difference(network, litert, tiles)),
        split_fits=(fit_split(other_rule(recipe.rule), images, features, **steps),),
    )


def _fit_all_layers(
    images: TrainingImages,
    backbone: keras.Model,
    recipe: FinetuneRecipe,
    rule: SplitRule,
    settings: TrainSettings,
    folder: Path,
    cache: Path,
    on_event: OnEvent,
) -> Fitted:
    chunk = map_tiles(images.root, images.files, folder / TILES_FILE)
    dataset = summarise_dataset(images, chunk.kept, chunk.sha256, chunk.bad)
    on_event(dataset)
    labels = images.labels[chunk.kept]
    frozen = tile_features(chunk.tiles, chunk.sha256, to_litert(backbone), cache=cache, on_event=on_event)
    features = Features(frozen, chunk.kept, chunk.sha256, chunk.bad)
    division = divide_images(rule, images, chunk.kept, chunk.sha256, frozen)
    split = division.split
    # A head of random numbers would send its first, large gradients through the whole backbone.
    head, _ = fit_head(
        frozen, labels, split, epochs=WARM_START_EPOCHS, batch_size=recipe.batch_size, seed=rule.seed
    )
    network = attach_head(backbone, head)
    history: list[Epoch] = []

    def on_epoch(event: EpochFinished) -> None:
        history.append(Epoch(event.epoch, event.loss, event.accuracy, event.val_loss, event.val_accuracy))
        on_event(event)

    examples = Examples(chunk.tiles, labels, split.train, split.validation, recipe, rule.seed)
    hyperparameters = recipe.as_record()
    if workers := settings.train_workers:
        from crackmodel.models.training.distributed.coordinator import finetune_on_ray

        hyperparameters["train_workers"] = workers
        gpus = settings.gpus_per_worker
        best = finetune_on_ray(network, examples, on_epoch, workers=workers, gpus=gpus, folder=folder)
    else:
        best = finetune(network, examples, on_epoch)
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
        dataset=dataset,
        history=tuple(history),
        best_epoch=best,
        hyperparameters=hyperparameters,
        difference=largest_difference(network, litert, chunk.tiles[_sample(labels, split)]),
        split_fits=tuple(fit_split(each, images, features) for each in (rule, other_rule(rule))),
    )


def _sample(labels: npt.NDArray[np.int8], split: Split) -> npt.NDArray[np.int64]:
    """Pick up to 64 validation rows, half of each class."""
    rows = split.validation
    picked = [rows[labels[rows] == label][: _SAMPLE // 2] for label in (0, 1)]
    return np.concatenate(picked)
