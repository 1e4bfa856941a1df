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
    on_epoch: Callable[[EpochFinished], None] = lambda _: None,
) -> tuple[keras.Model, list[Epoch]]:
    """Fit a softmax head to features; keep the last epoch's weights.

    Args:
        features: float32 [n, 1280].
        labels: Integers [n].
        split: The head is fitted to its training rows and measured on its validation rows.
        epochs: Passes.
        batch_size: Rows a step.
        seed: Of the first weights and the order. Keras', NumPy's and Python's global generators are set to
            it here, since whatever ran before (Ray, above all) has drawn from them.
        learning_rate: Adam's.
        on_epoch: Called after every epoch.

    Returns:
        The head and its history.
    """
    import keras

    history: list[Epoch] = []

    def end_epoch(epoch: int, logs: dict[str, float]) -> None:
        measured = {name: float(logs[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        history.append(Epoch(epoch + 1, **measured))
        on_epoch(EpochFinished(epoch + 1, epochs, **measured))

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
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)],
        verbose=0,
    )
    return head, history
