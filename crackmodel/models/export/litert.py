"""Export from Keras to LiteRT, with a check of equality."""

from __future__ import annotations

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

    try:
        # `from_concrete_functions(..., network)` keeps the weights as uninitialised variables: NaN.
        # Without the second argument they become constants, which is also five times faster.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([trace_tile(network)])
        content: bytes = converter.convert()
    except Exception as fault:  # the converter raises anything from ValueError to its own ConverterError
        raise ModelExportFailed(
            f"TensorFlow cannot convert the network to LiteRT: {fault}.",
            "Check that tensorflow and keras have the versions of the lock file.",
        ) from fault
    return content


def trace_tile(network: keras.Model) -> Any:
    """Trace a network for one tile, the start of every export.

    Args:
        network: As for `to_litert`.

    Returns:
        TensorFlow's concrete function from float32 [1, 160, 160, 3].
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, TILE_EDGE, TILE_EDGE, 3), tf.float32, "tile")])  # type: ignore[untyped-decorator]
    def run(tile: tf.Tensor) -> Any:
        return network(tile, training=False)

    return run.get_concrete_function()


def largest_difference(
    network: keras.Model, litert: bytes, tiles: npt.NDArray[np.uint8], *, tolerance: float = TOLERANCE
) -> float:
    """Compare a LiteRT model with the Keras network it was made from.

    Args:
        network: The original.
        litert: Its export.
        tiles: uint8 [n, 160, 160, 3], real pictures of both classes.
        tolerance: The largest difference that passes.

    Returns:
        The largest absolute difference between their outputs.

    Raises:
        ModelExportFailed: It is above the tolerance or not a number.
    """
    expected = np.concatenate(
        [
            np.asarray(network(tiles[start : start + 32].astype(np.float32), training=False))
            for start in range(0, len(tiles), 32)
        ]
    )
    difference = float(np.abs(LiteRTModel(litert).run(tiles) - expected).max())
    if not difference <= tolerance:  # catches NaN
        raise ModelExportFailed(
            f"On {len(tiles)} tiles LiteRT and Keras differ by up to {difference:.2g}.",
            "Nothing was published; check that tensorflow and ai-edge-litert are those of the lock file.",
        )
    return difference
