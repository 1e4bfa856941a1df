"""Engines: the same network, run by LiteRT or by Keras.

An engine turns prepared tiles into calibrated probabilities of a crack. LiteRT is the one that scores
surveys: single-threaded it gives half of what two threads give, so one interpreter per core loses
nothing, and a batch of 1 is as fast as one of 32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelCorrupt, UsageError

CRACK: Final = 1
"""Which of the network's outputs is the crack: see `crackmodel.models.network.CLASS_NAMES`."""

ENGINE_NAMES: Final = ("litert", "tensorflow")

_TINY: Final = 1e-30


class Engine(Protocol):
    """What turns tiles into probabilities."""

    name: str

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score tiles.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB from `prepare_tile`; n may be 0.

        Returns:
            float32 [n], the calibrated probability of a crack in each tile.
        """
        ...


def calibrate(outputs: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float32]:
    """Turn softmax outputs into calibrated probabilities by temperature scaling.

    The two logits' difference is divided by the temperature: Guo, Pleiss, Sun, Weinberger, "On
    Calibration of Modern Neural Networks", ICML 2017. No verdict at threshold 0.5 changes.

    Args:
        outputs: float32 [n, 2], the softmax probabilities of (clear, crack).
        temperature: Above 0; 1 returns the probability of a crack untouched.

    Returns:
        float32 [n].
    """
    if temperature == 1.0:
        return np.ascontiguousarray(outputs[:, CRACK], dtype=np.float32)
    margin = log_odds(outputs) / temperature
    return (1 / (1 + np.exp(-margin))).astype(np.float32)


def log_odds(outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Recover the logits' difference, crack minus clear, from softmax outputs [n, 2]; finite always."""
    floored = np.maximum(outputs.astype(np.float64), _TINY)
    odds: npt.NDArray[np.float64] = np.log(floored[:, CRACK]) - np.log(floored[:, 1 - CRACK])
    return odds


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep the line that LiteRT writes to file descriptor 2 for every interpreter off the terminal.

    There is no switch for it. What goes wrong meanwhile is raised, not written.
    """
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


class LiteRTModel:
    """A LiteRT model of one tile in, one vector out.

    Args:
        model: The content of a `.tflite` file.
        threads: Threads of the interpreter.

    Raises:
        ModelCorrupt: The content is not a LiteRT model.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with _without_greeting():
                self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as fault:
            raise ModelCorrupt(
                f"LiteRT cannot read the model: {fault}.", "Train it again or take another version."
            ) from fault
        (entry,) = self._interpreter.get_input_details()
        (exit_,) = self._interpreter.get_output_details()
        self._input: int = entry["index"]
        self._output: int = exit_["index"]
        self.width = int(exit_["shape"][-1])

    def run(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the model on each tile.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB.

        Returns:
            float32 [n, width].
        """
        outputs = np.empty((len(tiles), self.width), np.float32)
        interpreter = self._interpreter
        for tile, output in zip(tiles, outputs, strict=True):
            # Straight into the interpreter's own buffer. The view must be gone before invoke().
            np.copyto(interpreter.tensor(self._input)()[0], tile)
            interpreter.invoke()
            output[:] = interpreter.tensor(self._output)()[0]
        return outputs


class LiteRTEngine:
    """Score with LiteRT on the CPU.

    Args:
        model: The content of `model.tflite`.
        threads: Threads of the interpreter; 1 where every core has an engine of its own.
        temperature: From the model's card.

    Raises:
        ModelCorrupt: The content is not a LiteRT model.
    """

    name = "litert"

    def __init__(self, model: bytes, *, threads: int = 1, temperature: float = 1.0) -> None:
        self._model = LiteRTModel(model, threads=threads)
        self._temperature = temperature

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score tiles: see `Engine.predict`."""
        return calibrate(self._model.run(tiles), self._temperature)


class KerasEngine:
    """Score with Keras on TensorFlow: the reference, and the engine for GPU workers.

    Args:
        path: A `model.keras` whose SHA-256 has been checked.
        temperature: From the model's card.
        batch_size: Tiles per call of the network.

    Raises:
        UsageError: TensorFlow is not installed.
        ModelCorrupt: Keras cannot read the file.
    """

    name = "tensorflow"

    def __init__(self, path: Path, *, temperature: float = 1.0, batch_size: int = 32) -> None:
        try:
            import keras
            import tensorflow  # noqa: F401 - Keras needs it as its backend
        except ModuleNotFoundError as fault:
            raise UsageError(
                f"The tensorflow engine needs {fault.name}, which is not installed.",
                "Use --engine litert, or install it: pip install 'crackmodel[train]'.",
            ) from fault
        try:
            self._network: Any = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, OSError, TypeError, KeyError) as fault:
            raise ModelCorrupt(
                f"Keras cannot read {path}: {fault}.", "Train it again or take another version."
            ) from fault
        self._network.compile(jit_compile=False)  # XLA is ten times slower than oneDNN on a CPU
        self._temperature = temperature
        self._batch_size = batch_size

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score tiles: see `Engine.predict`."""
        if len(tiles) == 0:
            return np.empty(0, np.float32)
        outputs = self._network.predict(tiles, batch_size=self._batch_size, verbose=0)
        return calibrate(outputs, self._temperature)
