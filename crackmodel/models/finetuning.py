"""Training every layer of the network on augmented tiles, in one process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crackmodel.models.augmentation import Augmentation, augment_tile
from crackmodel.models.events import EpochFinished

if TYPE_CHECKING:
    import keras

Tiles = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class FinetuneRecipe:
    """How the whole network is trained.

    Attributes:
        epochs: At most this many passes over the training part.
        batch_size: Tiles a step.
        learning_rate: Adam's, at the start; it falls to a fiftieth along half a cosine. Small: with
            2e-4 the backbone forgets ImageNet and calls wide cracks clear, with certainty.
        label_smoothing: The share of certainty taken from the labels, against overconfidence.
        patience: Epochs without a smaller validation loss before training stops.
        augmentation: How tiles are varied.
    """

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-4
    label_smoothing: float = 0.05
    patience: int = 3
    augmentation: Augmentation = field(default_factory=Augmentation)

    def as_record(self) -> dict[str, Any]:
        """Everything as plain JSON values, for a model's card."""
        return {"optimizer": "Adam", "trainable": "all layers, batch statistics fixed", **asdict(self)}


def finetune(
    network: keras.Model,
    tiles: Tiles,
    labels: Labels,
    *,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    recipe: FinetuneRecipe,
    seed: int,
    on_epoch: Callable[[EpochFinished], None],
) -> int:
    """Train all layers and leave the weights of the epoch with the smallest validation loss.

    Augmentation touches the training part only; the validation part is seen as it is.

    Args:
        network: From `build_network`, best with a head that has been fitted to frozen features.
        tiles: uint8 [n, 160, 160, 3], the whole data set; only the rows of the two parts are read.
        labels: Integers [n], 1 for a crack.
        train: Rows to learn from.
        validation: Rows to stop by.
        recipe: The hyper-parameters.
        seed: Decides order and augmentation.
        on_epoch: Called after every epoch.

    Returns:
        The epoch, counted from 1, whose weights the network now has.
    """
    import keras

    batches = _augmented_batches(tiles, labels, train, recipe, seed)
    steps = math.ceil(len(train) / recipe.batch_size) * recipe.epochs
    network.trainable = True
    network.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps, alpha=0.02)
        ),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # "auto" means XLA, ten times slower than oneDNN on a CPU
    )
    stop = keras.callbacks.EarlyStopping("val_loss", patience=recipe.patience, restore_best_weights=True)
    network.fit(
        batches,
        epochs=recipe.epochs,
        validation_data=_plain_batches(tiles, labels, validation, recipe.batch_size),
        callbacks=[stop, epoch_reporter(recipe.epochs, on_epoch)],
        shuffle=False,  # the batches come shuffled
        verbose=0,
    )
    return int(stop.best_epoch) + 1


def epoch_reporter(epochs: int, on_epoch: Callable[[EpochFinished], None]) -> keras.callbacks.Callback:
    """Turn Keras' end of an epoch into an `EpochFinished`."""
    import keras

    def report(epoch: int, logs: dict[str, float]) -> None:
        on_epoch(
            EpochFinished(
                epoch=epoch + 1,
                epochs=epochs,
                loss=float(logs["loss"]),
                accuracy=float(logs["accuracy"]),
                val_loss=float(logs["val_loss"]),
                val_accuracy=float(logs["val_accuracy"]),
            )
        )

    return keras.callbacks.LambdaCallback(on_epoch_end=report)


def augmented_batch(
    tiles: Tiles,
    labels: Labels,
    rows: npt.NDArray[np.int64],
    part: npt.NDArray[np.int64],
    *,
    how: Augmentation,
    seed: int,
    epoch: int,
) -> tuple[Tiles, npt.NDArray[np.float32]]:
    """Vary the tiles of some rows.

    Args:
        tiles: uint8 [n, 160, 160, 3].
        labels: Integers [n].
        rows: The rows of the batch.
        part: The training part: where the companions of collages come from.
        how: The probabilities.
        seed: With `epoch` and the row, decides each sample's variation.
        epoch: Counted from 0.

    Returns:
        uint8 [len(rows), 160, 160, 3] and float32 [len(rows), 2], one-hot.
    """
    clear = part[labels[part] == 0]
    made = np.empty((len(rows), *tiles.shape[1:]), np.uint8)
    for place, row in enumerate(rows):
        rng = np.random.default_rng((seed, epoch, int(row)))
        # A crack stays one in any company; two in three companions are clear so that it is seldom easy.
        anything = labels[row] == 1 and rng.random() < 0.33
        companions = rng.choice(part if anything else clear, 3)
        made[place] = augment_tile(tiles[row], rng, [tiles[other] for other in companions], how)
    return made, one_hot(labels[rows])


def one_hot(labels: Labels) -> npt.NDArray[np.float32]:
    """Turn labels [n] into float32 [n, 2], in the order of `CLASS_NAMES`."""
    return np.eye(2, dtype=np.float32)[labels]


def _augmented_batches(
    tiles: Tiles, labels: Labels, train: npt.NDArray[np.int64], recipe: FinetuneRecipe, seed: int
) -> Any:
    import keras

    class AugmentedBatches(keras.utils.PyDataset):  # type: ignore[misc]
        """The training part, shuffled and varied anew every epoch."""

        def __init__(self) -> None:
            super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
            self.epoch = 0
            self._shuffle()

        def _shuffle(self) -> None:
            self.order = np.random.default_rng((seed, self.epoch)).permutation(train)

        def __len__(self) -> int:
            return math.ceil(len(train) / recipe.batch_size)

        def __getitem__(self, step: int) -> tuple[Tiles, npt.NDArray[np.float32]]:
            rows = self.order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            return augmented_batch(
                tiles, labels, rows, train, how=recipe.augmentation, seed=seed, epoch=self.epoch
            )

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self._shuffle()

    return AugmentedBatches()


def _plain_batches(tiles: Tiles, labels: Labels, rows: npt.NDArray[np.int64], batch_size: int) -> Any:
    import keras

    class PlainBatches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return math.ceil(len(rows) / batch_size)

        def __getitem__(self, step: int) -> tuple[Tiles, npt.NDArray[np.float32]]:
            these = rows[step * batch_size : (step + 1) * batch_size]
            return tiles[these], one_hot(labels[these])

    return PlainBatches()
