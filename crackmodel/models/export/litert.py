"""Export from Keras to LiteRT, with a check of equality."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelExportFailed
from crackmodel.models.inference.engines import LiteRTModel
from crackmodel.models.preprocessing import TILE_EDGE

if TYPE_CHECKING:
    import keras

TOLERANCE: Final = 1e-4
"""Largest difference in probability that passes for float error."""


@contextmanager
def conversion_errors(what: str) -> Iterator[None]:
    """Raise `ModelExportFailed` where TensorFlow cannot do `what`."""
    try:
        yield
    except Exception as fault:  # the converter raises anything from ValueError to its own ConverterError
        raise ModelExportFailed(
            f"TensorFlow cannot {what}: {fault}.",
            "Check that tensorflow and keras have the versions of the lock file.",
        ) from fault


def to_litert(network: keras.Model) -> bytes:
    """Convert a network to float32 LiteRT for one tile.

    A fixed batch of 1 costs nothing on a CPU and lets XNNPACK plan its memory once.

    Args:
        network: From float32 [n, 160, 160, 3] to float32 [n, width], or to several such outputs: see
            `network.with_features`. `LiteRTModel` tells them apart by their widths.

    Returns:
        The content of a `.tflite` file.

    Raises:
        ModelExportFailed: TensorFlow cannot convert it.
    """
    import tensorflow as tf

    with conversion_errors("convert the network to LiteRT"):
        # `from_concrete_functions(..., network)` keeps the weights as uninitialised variables: NaN.
        # Without the second argument they become constants, which is also five times faster.
        content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([trace_tile(network)]).convert()
    return content


def trace_tile(network: keras.Model) -> Any:
    """Trace a network as TensorFlow's function from float32 [1, 160, 160, 3], the start of every export."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, TILE_EDGE, TILE_EDGE, 3), tf.float32, "tile")])  # type: ignore[untyped-decorator]
    def run(tile: tf.Tensor) -> Any:
        return network(tile, training=False)

    return run.get_concrete_function()


def largest_difference(network: keras.Model, litert: bytes, tiles: npt.NDArray[np.uint8]) -> float:
    """Compare a LiteRT model with the Keras network it was made from.

    Args:
        network: The original.
        litert: Its export.
        tiles: uint8 [n, 160, 160, 3], real pictures of both classes.

    Returns:
        The largest absolute difference between their outputs.

    Raises:
        ModelExportFailed: It is above `TOLERANCE` or not a number.
    """
    batches = (tiles[start : start + 32].astype(np.float32) for start in range(0, len(tiles), 32))
    expected = np.concatenate([network(batch, training=False) for batch in batches])
    difference = float(np.abs(LiteRTModel(litert).run(tiles) - expected).max())
    if not difference <= TOLERANCE:  # catches NaN
        raise ModelExportFailed(
            f"On {len(tiles)} tiles LiteRT and Keras differ by up to {difference:.2g}.",
            "Nothing was published; check that tensorflow and ai-edge-litert are those of the lock file.",
        )
    return difference
