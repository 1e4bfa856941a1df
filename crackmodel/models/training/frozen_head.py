"""The softmax head that is fitted to a frozen backbone's features."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.card.card import Epoch
from crackmodel.models.datasets.labelled import Split
from crackmodel.models.network import build_head
from crackmodel.models.training.finetuning import one_hot
from crackmodel.models.training.training_events import EpochFinished

if TYPE_CHECKING:
    import keras

HEAD_LEARNING_RATE: Final = 1e-3

_STEPS_PER_CALL: Final = 32
"""Steps that TensorFlow takes without returning to Python: the same weights, in half the time."""


def fit_head(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int8],
    split: Split,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    learning_rate: float = HEAD_LEARNING_RATE,
    on_epoch: Callable[[EpochFinished], None],
) -> tuple[keras.Model, list[Epoch]]:
    """Fit a softmax head to features with Keras; the last epoch's weights stay.

    Args:
        features: float32 [n, 1280].
        labels: Integers [n].
        split: Its training rows are learnt, its validation rows measured after every epoch.
        epochs: Passes.
        batch_size: Rows a step.
        seed: Of the first weights and the order. Keras', NumPy's and Python's global generators are set to
            it here, since whatever ran before (Ray, above all) has drawn from them.
        learning_rate: Adam's.
        on_epoch: Told after every epoch.

    Returns:
        The head and its history.
    """
    import keras

    history: list[Epoch] = []

    def remember(event: EpochFinished) -> None:
        history.append(as_record(event))
        on_epoch(event)

    keras.utils.set_random_seed(seed)
    head = build_head()
    head.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
        steps_per_execution=_STEPS_PER_CALL,
    )
    head.fit(
        features[split.train],
        one_hot(labels[split.train]),
        validation_data=(features[split.validation], one_hot(labels[split.validation])),
        epochs=epochs,
        batch_size=batch_size,
        callbacks=[_epoch_reporter(epochs, remember)],
        verbose=0,
    )
    return head, history


def as_record(event: EpochFinished) -> Epoch:
    """Turn an epoch that was told into one for the card."""
    return Epoch(event.epoch, event.loss, event.accuracy, event.val_loss, event.val_accuracy)


def _epoch_reporter(epochs: int, on_epoch: Callable[[EpochFinished], None]) -> keras.callbacks.Callback:
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
