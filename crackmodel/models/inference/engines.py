"""Engines: the same network, run by LiteRT or by Keras.

An engine turns prepared tiles into calibrated probabilities of a crack. LiteRT is the one that scores
surveys: single-threaded it gives half of what two threads give, so one interpreter per core loses
nothing, and a batch of 1 is as fast as one of 32.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ClusterError, ModelCorrupt, UsageError
from crackmodel.models.network import FEATURES, with_features
from crackmodel.models.preprocessing import TILE_EDGE

CRACK: Final = 1
"""Which of the network's outputs is the crack: see `crackmodel.models.network.CLASS_NAMES`."""

_TINY: Final = 1e-30

_TERMINAL: Final = threading.Lock()
"""Held while file descriptor 2 leads elsewhere: of two threads the second would put that elsewhere back."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Probabilities and features of some tiles.

    Attributes:
        probabilities: float32 [n], the calibrated probability of a crack.
        features: float32 [n, 1280], the pooled features, None where the model does not return them.
    """

    probabilities: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32] | None


class Engine(Protocol):
    """The interface of engines: from tiles to probabilities.

    Attributes:
        name: What the report calls it.
        batch_size: Tiles that it is best given at once.
    """

    name: str
    batch_size: int

    def predict(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score tiles.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB from `prepare_tile`; n may be 0.

        Returns:
            float32 [n], the calibrated probability of a crack in each tile.
        """
        return self.score(tiles).probabilities

    def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
        """Score tiles like `predict`, with their features."""
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
    """Recover the logits' difference from softmax outputs [n, 2]; always finite."""
    floored = np.maximum(outputs.astype(np.float64), _TINY)
    odds: npt.NDArray[np.float64] = np.log(floored[:, CRACK]) - np.log(floored[:, 1 - CRACK])
    return odds


@contextmanager
def silence_litert_banner() -> Iterator[None]:
    """Suppress the line that LiteRT prints for every interpreter.

    There is no switch for it. What goes wrong meanwhile is raised, not written.
    """
    with _TERMINAL:
        terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            os.close(nowhere)


class LiteRTModel:
    """A LiteRT model from one tile to a vector, perhaps with features.

    Args:
        model: The content of a `.tflite` file.
        threads: Threads of the interpreter.

    Attributes:
        width: Numbers in the vector.
        has_features: Whether the features come with it.

    Raises:
        ModelCorrupt: The content is not a LiteRT model, or one with other outputs.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with silence_litert_banner():
                self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as fault:
            raise ModelCorrupt(f"LiteRT cannot read the model: {fault}.", _TRAIN_AGAIN) from fault
        (entry,) = self._interpreter.get_input_details()
        self._input: int = entry["index"]
        self.width, self._output, self._features = _find_outputs(self._interpreter.get_output_details())
        self.has_features = self._features is not None

    def run(self, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the model on each tile.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB.

        Returns:
            float32 [n, width].
        """
        return self._run(tiles, None)

    def run_with_features(
        self, tiles: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Run the model on each tile.

        Args:
            tiles: uint8 [n, 160, 160, 3] RGB.

        Returns:
            float32 [n, width], and the features float32 [n, 1280].

        Raises:
            ModelCorrupt: The model does not return them: see `has_features`.
        """
        if self._features is None:
            raise ModelCorrupt("The model returns no features beside its vector.", _TRAIN_AGAIN)
        features = np.empty((len(tiles), FEATURES), np.float32)
        return self._run(tiles, features), features

    def _run(
        self, tiles: npt.NDArray[np.uint8], features: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.float32]:
        outputs = np.empty((len(tiles), self.width), np.float32)
        interpreter = self._interpreter
        for row, tile in enumerate(tiles):
            # Straight into the interpreter's own buffer. The view must be gone before invoke().
            np.copyto(interpreter.tensor(self._input)()[0], tile)
            interpreter.invoke()
            outputs[row] = interpreter.tensor(self._output)()[0]
            if features is not None:
                features[row] = interpreter.tensor(self._features)()[0]
        return outputs


def _find_outputs(outputs: list[dict[str, Any]]) -> tuple[int, int, int | None]:
    """Find the vector's and the features' tensors; converters keep no order."""
    width_of = {int(output["index"]): int(output["shape"][-1]) for output in outputs}
    if len(width_of) == 1:
        ((index, width),) = width_of.items()
        return width, index, None
    features = [index for index, width in width_of.items() if width == FEATURES]
    others = [index for index in width_of if index not in features]
    if len(features) != 1 or len(others) != 1:
        raise ModelCorrupt(
            f"The model has outputs of {', '.join(map(str, width_of.values()))} numbers, where one vector "
            f"and perhaps {FEATURES} features are expected.",
            _TRAIN_AGAIN,
        )
    return width_of[others[0]], others[0], features[0]


_TRAIN_AGAIN: Final = "Train it again or take another version."


class LiteRTEngine(Engine):
    """Score with LiteRT on the CPU.

    Args:
        model: The content of `model.tflite`, or of `model-int8.tflite`, which has the same signature.
        threads: Threads of the interpreter; 1 where every core has an engine of its own.
        temperature: From the model's card.
        name: `litert` or `litert-int8`.

    Raises:
        ModelCorrupt: The content is not a LiteRT model.
    """

    def __init__(
        self, model: bytes, *, threads: int = 1, temperature: float = 1.0, name: str = "litert"
    ) -> None:
        self.name = name
        self.batch_size = 32  # as fast as 1, with fewer calls
        self._model = LiteRTModel(model, threads=threads)
        self._temperature = temperature

    def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
        """Score tiles: see `Engine.score`."""
        if not self._model.has_features:
            return Scored(calibrate(self._model.run(tiles), self._temperature), None)
        outputs, features = self._model.run_with_features(tiles)
        return Scored(calibrate(outputs, self._temperature), features)


class KerasEngine(Engine):
    """Score with Keras on TensorFlow, for GPU workers and as reference.

    A GPU that several processes share is not taken whole: memory is claimed as it is needed.

    Args:
        path: A `model.keras` whose SHA-256 has been checked.
        temperature: From the model's card.

    Raises:
        UsageError: TensorFlow is not installed.
        ModelCorrupt: Keras cannot read the file.
    """

    name = "tensorflow"

    def __init__(self, path: Path, *, temperature: float = 1.0) -> None:
        try:
            import keras
            import tensorflow as tf
        except ModuleNotFoundError as fault:
            raise UsageError(
                f"The tensorflow engine needs {fault.name}, which is not installed.",
                "Use --engine litert, or install it, in crackmodel's folder: make .venv/.ready-to-develop.",
            ) from fault
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            with contextlib.suppress(RuntimeError):  # it is in use already
                tf.config.experimental.set_memory_growth(gpu, enable=True)
        try:
            network = keras.saving.load_model(path, compile=False, safe_mode=True)
            self._run: Any = _compiled(with_features(network))
        except (ValueError, OSError, TypeError, KeyError) as fault:
            raise ModelCorrupt(f"Keras cannot read {path}: {fault}.", _TRAIN_AGAIN) from fault
        self._errors = tf.errors
        self._temperature = temperature
        self.batch_size = 256 if gpus else 32
        self._at_once = self.batch_size

    def score(self, tiles: npt.NDArray[np.uint8]) -> Scored:
        """Score tiles: see `Engine.score`."""
        if len(tiles) == 0:
            return Scored(np.empty(0, np.float32), np.empty((0, FEATURES), np.float32))
        parts: list[list[npt.NDArray[np.float32]]] = []
        start = 0
        while start < len(tiles):
            some = self._run_some(tiles[start:])
            parts.append(some)
            start += len(some[0])
        outputs, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Scored(calibrate(outputs, self._temperature), features)

    def _run_some(self, tiles: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Run the network on as many tiles as fit into memory.

        Raises:
            ClusterError: On not even one, or TensorFlow fails in another way. All tiles look alike to it, so
                this is no picture's fault.
        """
        while True:
            some = tiles[: self._at_once]
            try:
                return [np.asarray(output) for output in self._run(some)]
            except self._errors.OpError as fault:
                if isinstance(fault, self._errors.ResourceExhaustedError) and len(some) > 1:
                    self._at_once = len(some) // 2  # others may have taken the rest of the GPU
                    continue
                why = " ".join(fault.message.split())[:300]
                raise ClusterError(
                    f"TensorFlow cannot run the model on {platform.node()}: {type(fault).__name__}: {why}.",
                    "Look at that machine's GPU (nvidia-smi); give each task a larger share of it with "
                    "--gpus-per-task, or use --engine litert. Then run the same command again.",
                ) from fault


def _compiled(network: Any) -> Any:
    """Compile a network into one graph; `predict` costs several tiles' time."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, TILE_EDGE, TILE_EDGE, 3), tf.uint8)])  # type: ignore[untyped-decorator]
    def run(tiles: tf.Tensor) -> Any:
        return network(tf.cast(tiles, tf.float32), training=False)

    return run
