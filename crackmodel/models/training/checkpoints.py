"""The state of a distributed training after an epoch, as one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.training.training_events import EpochFinished

STATE_FILE: Final = "state.npz"
TILES_FILE: Final = "tiles.npy"

_GROUPS: Final = ("weights", "optimizer", "best_weights")

Arrays = list[npt.NDArray[Any]]
"""A network's or an optimizer's variables, in Keras' order."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of a training after an epoch.

    Attributes:
        epoch: Epochs that are done.
        weights: The network's variables.
        optimizer: The optimizer's variables; none before the first epoch.
        best: The epoch with the smallest validation loss, counted from 1; 0 for none yet.
        best_loss: Its validation loss.
        best_weights: The network's variables after it.
        history: Every epoch.
    """

    epoch: int
    weights: Arrays
    optimizer: Arrays
    best: int
    best_loss: float
    best_weights: Arrays
    history: tuple[EpochFinished, ...]

    @classmethod
    def first(cls, weights: Arrays) -> State:
        """The state before the first epoch."""
        return cls(0, weights, [], 0, math.inf, weights, ())

    def after(self, done: EpochFinished, weights: Arrays, optimizer: Arrays) -> State:
        """Return the state after one more epoch."""
        better = done.val_loss < self.best_loss
        return State(
            epoch=done.epoch,
            weights=weights,
            optimizer=optimizer,
            best=done.epoch if better else self.best,
            best_loss=done.val_loss if better else self.best_loss,
            best_weights=weights if better else self.best_weights,
            history=(*self.history, done),
        )

    def is_last(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the last `patience` of them were no improvement."""
        return self.epoch >= epochs or self.epoch - self.best >= patience

    def write(self, path: Path) -> None:
        """Write everything into one `.npz` file."""
        rest = {name: getattr(self, name) for name in ("epoch", "best", "best_loss")}
        rest["history"] = [asdict(event) for event in self.history]
        arrays: dict[str, Any] = {
            f"{group}/{place}": array for group in _GROUPS for place, array in enumerate(getattr(self, group))
        }
        np.savez(path, rest=np.array(json.dumps(rest)), **arrays)

    @classmethod
    def read(cls, path: Path) -> State:
        """Read what `write` wrote."""
        groups: dict[str, Arrays] = {group: [] for group in _GROUPS}
        with np.load(path) as stored:
            rest = json.loads(str(stored["rest"]))
            for key in stored.files:  # in the order in which they were written
                if "/" in key:
                    groups[key.partition("/")[0]].append(stored[key])
        return cls(**rest | groups | {"history": _history(rest)})

    @staticmethod
    def read_history(path: Path) -> tuple[EpochFinished, ...]:
        """Read the epochs alone of what `write` wrote."""
        with np.load(path) as stored:
            return _history(json.loads(str(stored["rest"])))


def _history(rest: Mapping[str, Any]) -> tuple[EpochFinished, ...]:
    return tuple(EpochFinished(**event) for event in rest["history"])
