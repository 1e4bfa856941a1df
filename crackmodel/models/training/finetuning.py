"""Fine-tuning on augmented tiles, in one process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.augmentation.variations import Augmentation, augment_tile, replace_tile
from crackmodel.models.network import BACKBONE
from crackmodel.models.training.checkpoints import State
from crackmodel.models.training.precision import in_precision
from crackmodel.models.training.tile_batches import in_batches, prefetched
from crackmodel.models.training.training_events import EpochFinished
from crackmodel.settings import Precision

if TYPE_CHECKING:
    import keras

Tiles = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer]
Rows = npt.NDArray[np.int64]

VALIDATION_BATCH: Final = 32
"""Validation tiles that go through the network at once, as they are and varied."""

_VALIDATION_EPOCH: Final = 2**31
"""Stands for the epoch in the variations of validation tiles, which are the same in all of them."""


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """How the whole network is trained.

    Attributes:
        epochs: At most this many passes over the training part.
        batch_size: Tiles a step.
        learning_rate: Adam's highest, reached after half an epoch; from there it falls to a fiftieth
            along half a cosine.
        label_smoothing: The share of certainty taken from the labels, against overconfidence.
        patience: Epochs without a smaller validation loss before training stops.
        first_trained: Where the names of the backbone's first layers that learn begin. Those before keep
            ImageNet's edges and spots, which saves 40 % of the time of a step. Empty trains all.
        augmentation: How tiles are varied.
        precision: How the network calculates while it learns; see `precision.in_precision`.
    """

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 3e-4
    label_smoothing: float = 0.02
    patience: int = 3
    first_trained: str = "block_2"
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "float32"

    def as_record(self) -> dict[str, Any]:
        """Everything as plain JSON values, for a model's card."""
        return {"optimizer": "Adam", "trainable": "batch statistics fixed", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Examples:
    """The tiles of a fine-tuning, its two parts, and how batches are made of them.

    Attributes:
        tiles: uint8 [n, 160, 160, 3], the whole data set; only the rows of the two parts are read.
        labels: Integers [n], 1 for a crack.
        train: Rows to learn from.
        validation: Rows to stop by.
        recipe: The hyper-parameters.
        seed: Decides order and augmentation.
    """

    tiles: Tiles
    labels: Labels
    train: Rows
    validation: Rows
    recipe: FinetuneRecipe
    seed: int

    def order(self, epoch: int) -> Rows:
        """Shuffle the training rows for an epoch, counted from 0."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.train)

    def augmented(self, rows: Rows, part: Rows, epoch: int) -> tuple[Tiles, npt.NDArray[np.float32]]:
        """Make an augmented batch of some rows.

        Args:
            rows: The rows of the batch.
            part: The rows' own part: where the companions of collages come from.
            epoch: With the seed and the row, decides each sample's variation; counted from 0.

        Returns:
            uint8 [len(rows), 160, 160, 3] and float32 [len(rows), 2], one-hot.
        """
        tiles, labels, how = self.tiles, self.labels, self.recipe.augmentation
        clear = part[labels[part] == 0]
        made = np.empty((len(rows), *tiles.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            rng = np.random.default_rng((self.seed, epoch, int(row)))
            # A crack stays one in any company; two in three companions are clear so that it is seldom easy.
            cracked = bool(labels[row] == 1)
            anything = cracked and rng.random() < 0.33
            companions = rng.choice(part if anything else clear, 3)
            tile = replace_tile(tiles[row], cracked, rng, [tiles[rng.choice(clear)]], how)
            made[place] = augment_tile(tile, rng, [tiles[other] for other in companions], how)
        return made, one_hot(labels[rows])

    def validation_batch(self, rows: Rows) -> tuple[Tiles, npt.NDArray[np.float32]]:
        """Make a batch of original tiles, then varied ones, as `augmented` does."""
        varied, wanted = self.augmented(rows, self.validation, _VALIDATION_EPOCH)
        return np.concatenate([self.tiles[rows], varied]), np.concatenate([wanted, wanted])

    def measure(self, network: keras.Model, rows: Rows) -> tuple[float, int]:
        """Sum smoothed loss and hits over validation rows, each original and varied."""
        import keras

        smoothing = self.recipe.label_smoothing
        entropy = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing, reduction=None)
        loss, hits = 0.0, 0
        for batch, wanted in prefetched(self.validation_batch, in_batches(rows, VALIDATION_BATCH)):
            outputs = network(batch.astype(np.float32), training=False)
            loss += float(np.sum(entropy(wanted, outputs)))
            hits += int(np.sum(np.argmax(outputs, axis=1) == np.argmax(wanted, axis=1)))
        return loss, hits


def finetune(network: keras.Model, examples: Examples, on_epoch: Callable[[EpochFinished], None]) -> int:
    """Train the layers; keep the epoch with the smallest validation loss.

    Validation uses each tile twice: as it is, and varied like the training part, the same in every epoch. On
    original tiles alone an epoch that has forgotten the variations would look best.

    Args:
        network: From `attach_head`, best with a head that has been fitted to frozen features.
        examples: What it learns from.
        on_epoch: Called after every epoch.

    Returns:
        The epoch, counted from 1, whose weights the network now has; 0 for those it came with, where
        no epoch had a finite validation loss.
    """
    recipe = examples.recipe
    learner = in_precision(network, recipe.precision)
    step = _training_step(learner, build_optimizer(learner, recipe, len(examples.train)), recipe)
    state = State.first(network.get_weights())
    while not state.is_last(recipe.epochs, recipe.patience):
        learnt, seen = _train_epoch(step, examples, state.epoch), _validate(learner, examples)
        done = EpochFinished(state.epoch + 1, recipe.epochs, *learnt, *seen)
        on_epoch(done)
        state = state.after(done, learner.get_weights(), [])
    network.set_weights(state.best_weights)
    return state.best


def build_optimizer(
    network: keras.Model, recipe: FinetuneRecipe, examples: int
) -> keras.optimizers.Optimizer:
    """Mark the trained layers of a network and build their optimizer.

    Args:
        network: From `attach_head`.
        recipe: The hyper-parameters.
        examples: Rows of the training part: they decide how many steps the learning rate falls along.

    Returns:
        Adam, with its variables built.
    """
    import keras

    for layer in network.layers:  # setting it on the network alone does not reach a nested model
        layer.trainable = True
    learns = False
    for layer in network.get_layer(BACKBONE).layers:
        learns = learns or layer.name.startswith(recipe.first_trained)
        layer.trainable = learns
    steps = math.ceil(examples / recipe.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps * recipe.epochs,
        alpha=recipe.learning_rate / 50,
        warmup_target=recipe.learning_rate,
        warmup_steps=steps // 2,
    )
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build(network.trainable_variables)
    return optimizer


def _training_step(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, recipe: FinetuneRecipe
) -> Any:
    import keras
    import tensorflow as tf

    entropy = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    weights = network.trainable_variables

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(batch: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            # `training=False` on purpose, and the reason for this loop: batch normalisation keeps ImageNet's
            # statistics while everything else learns. Keras' fit() passes `training=True` down to
            # every layer, whatever the model was built with; the running averages then lag behind the
            # statistics that were trained with, and validation loses a percent. There is no dropout.
            outputs = network(batch, training=False)
            loss = entropy(wanted, outputs)
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss, outputs

    return step


def _train_epoch(step: Any, examples: Examples, epoch: int) -> tuple[float, float]:
    def make(rows: Rows) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        batch, wanted = examples.augmented(rows, examples.train, epoch)
        return batch.astype(np.float32), wanted

    order = examples.order(epoch)
    loss, hits = 0.0, 0
    for batch, wanted in prefetched(make, in_batches(order, examples.recipe.batch_size)):
        batch_loss, outputs = step(batch, wanted)
        loss += float(batch_loss) * len(batch)
        hits += int(np.sum(np.argmax(outputs, axis=1) == np.argmax(wanted, axis=1)))
    return loss / len(order), hits / len(order)


def _validate(network: keras.Model, examples: Examples) -> tuple[float, float]:
    loss, hits = examples.measure(network, examples.validation)
    count = 2 * len(examples.validation)
    return loss / count, hits / count


def one_hot(labels: Labels) -> npt.NDArray[np.float32]:
    """Turn labels [n] into float32 [n, 2], in the order of `CLASS_NAMES`."""
    return np.eye(2, dtype=np.float32)[labels]
