"""Where a training stands: the best epoch is kept, patience ends it, and a file holds all of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from crackmodel.models.training import finetuning
from crackmodel.models.training.checkpoints import State
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe, finetune
from crackmodel.models.training.training_events import EpochFinished


def _after(val_losses: list[float], epochs: int = 10, patience: int = 2) -> State:
    """The state in which a training ends whose epochs have these validation losses."""
    state = State.first([np.zeros(1)])
    while not state.is_last(epochs, patience):
        epoch = state.epoch + 1
        done = EpochFinished(epoch, epochs, 1.0, 0.5, val_losses[epoch - 1], 0.5)
        state = state.after(done, [np.full(1, epoch)], [np.full(1, -epoch)])
    return state


@pytest.mark.parametrize(
    ("val_losses", "last", "best"),
    [
        ([0.5, 0.3, 0.4, 0.35, 0.1], 4, 2),
        ([0.5, 0.3, 0.4, 0.2, 0.3, 0.3], 6, 4),
        ([0.5, 0.5, 0.5], 3, 1),
        ([math.nan, math.nan], 2, 0),
        ([1 - 0.1 * epoch for epoch in range(10)], 10, 10),
    ],
)
def test_patience_ends_a_training_and_the_best_epoch_is_kept(
    val_losses: list[float], last: int, best: int
) -> None:
    state = _after(val_losses)

    assert (state.epoch, state.best) == (last, best)
    assert state.best_weights[0].item() == best
    assert (state.weights[0].item(), state.optimizer[0].item()) == (last, -last)
    assert [event.epoch for event in state.history] == list(range(1, last + 1))


def test_file_holds_the_state(tmp_path: Path) -> None:
    state = _after([0.5, 0.3, 0.4, 0.35])
    state.write(tmp_path / "state.npz")

    read = State.read(tmp_path / "state.npz")

    assert (read.epoch, read.best, read.best_loss, read.history) == (4, 2, 0.3, state.history)
    for name in ("weights", "optimizer", "best_weights"):
        np.testing.assert_array_equal(getattr(read, name), getattr(state, name))


def test_fine_tuning_stops_early_and_leaves_the_best_epochs_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        """Weights that count the epochs."""

        epochs = 0

        def get_weights(self) -> list[int]:
            return [self.epochs]

        def set_weights(self, weights: list[int]) -> None:
            self.epochs = weights[0]

    network, told, losses = Network(), list[EpochFinished](), [0.5, 0.3, 0.4, 0.35, 0.1]

    def train_epoch(*_: object) -> tuple[float, float]:
        network.epochs += 1
        return 1.0, 0.5

    monkeypatch.setattr(finetuning, "build_optimizer", lambda *_: None)
    monkeypatch.setattr(finetuning, "_training_step", lambda *_: None)
    monkeypatch.setattr(finetuning, "_train_epoch", train_epoch)
    monkeypatch.setattr(finetuning, "_validate", lambda *_: (losses[network.epochs - 1], 0.5))

    recipe, one = FinetuneRecipe(epochs=10, patience=2), np.arange(1)

    best = finetune(network, Examples(np.empty(0), np.empty(0), one, one, recipe, seed=0), told.append)

    assert best == network.epochs == 2
    assert [(event.epoch, event.val_loss) for event in told] == [(1, 0.5), (2, 0.3), (3, 0.4), (4, 0.35)]
