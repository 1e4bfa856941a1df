"""The network: MobileNetV2 at 160 px, average pooling, two softmax outputs.

    tile [160, 160, 3], 0..255 -> Rescaling to -1..1 -> MobileNetV2 (alpha 1.0, no top)
        -> GlobalAveragePooling2D [1280] -> Dense softmax [2] = (clear, crack)

MobileNetV2: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks", CVPR 2018.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

from crackmodel.errors import UsageError, WeightsNotFound
from crackmodel.models.preprocessing import TILE_EDGE

if TYPE_CHECKING:
    import keras

CLASS_NAMES: Final = ("clear", "crack")
"""Order of the network's two outputs."""

FEATURES: Final = 1280
"""Numbers that the pooled backbone gives for a tile."""

BACKBONE: Final = "mobilenetv2"
"""Name of the layer that holds the convolutions."""

KERAS_WEIGHTS: Final = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"
KERAS_WEIGHTS_URL: Final = (
    f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/{KERAS_WEIGHTS}"
)
"""The ImageNet checkpoint that `keras.applications.MobileNetV2` itself downloads for 160 px."""

_HEAD = "verdict"
_POOLED = "features"


def require_installed(work: str, *packages: str) -> None:
    """Check that packages are installed, before any work is done.

    Raises:
        UsageError: One is missing.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"{work} needs {package}, which is not installed.",
                "In crackmodel's folder: make .venv/.ready-to-develop, or pip install '.[train]'.",
            )


def find_weights(weights: Path | str | None = None) -> Path:
    """Find the ImageNet weights of the backbone.

    Args:
        weights: An `.h5` file; None or `"imagenet"` downloads Keras' own file for 160 px into Keras' cache
            (14 MB at most, once).

    Returns:
        An existing file.

    Raises:
        WeightsNotFound: The file does not exist, or it cannot be downloaded.
    """
    if weights and str(weights) != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsNotFound(f"The backbone's weights {path} are not a file.", _WAYS_OUT)
        return path
    import keras

    try:
        # Keras' own cache entry, under Keras' own name: the file that `weights="imagenet"` would use.
        return Path(keras.utils.get_file(KERAS_WEIGHTS, KERAS_WEIGHTS_URL, cache_subdir="models"))
    except Exception as fault:  # Keras raises a bare Exception where the download fails
        raise WeightsNotFound(
            f"No ImageNet weights were given and Keras could not download them: {fault}.", _WAYS_OUT
        ) from fault


_WAYS_OUT: Final = (
    "Give the MobileNetV2 ImageNet weights for alpha 1.0 without top, of 160 or 224 px, with --weights FILE "
    f"or CRACKMODEL_WEIGHTS ({KERAS_WEIGHTS_URL}), or train on a machine with internet, "
    "where Keras downloads them."
)


def build_backbone(weights: Path | None) -> keras.Model:
    """Build the part that turns tiles into features.

    Args:
        weights: The backbone's `.h5` file, or None for random weights (of no use but to look at shapes:
            with untouched batch statistics the features all but vanish).

    Returns:
        A model from float32 [n, 160, 160, 3], 0..255, to float32 [n, 1280].

    Raises:
        WeightsNotFound: The file does not hold these weights.
    """
    import keras

    try:
        convolutions = keras.applications.MobileNetV2(
            input_shape=(TILE_EDGE, TILE_EDGE, 3),
            include_top=False,
            weights=None if weights is None else str(weights),
            name=BACKBONE,
        )
    except (OSError, ValueError, KeyError, IndexError) as fault:
        raise WeightsNotFound(
            f"{weights} does not hold MobileNetV2 weights (alpha 1.0, no top): {fault}.", _WAYS_OUT
        ) from fault
    tile = keras.Input((TILE_EDGE, TILE_EDGE, 3), name="tile")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(tile)
    maps = convolutions(scaled)
    features = keras.layers.GlobalAveragePooling2D(name=_POOLED)(maps)
    return keras.Model(tile, features, name="crackmodel_backbone")


def build_head() -> keras.Model:
    """Build the softmax head on pooled features, [n, 1280] to [n, 2]."""
    import keras

    features = keras.Input((FEATURES,), name="pooled")
    verdict = keras.layers.Dense(len(CLASS_NAMES), activation="softmax", name=_HEAD)(features)
    return keras.Model(features, verdict, name="crackmodel_head")


def attach_head(backbone: keras.Model, head: keras.Model) -> keras.Model:
    """Assemble the network from a backbone and a trained head.

    The layers are shared with `backbone`; the head's weights are copied.

    Args:
        backbone: From `build_backbone`.
        head: From `build_head`.

    Returns:
        A model from float32 [n, 160, 160, 3], 0..255, to float32 [n, 2]: the probabilities of
        `CLASS_NAMES`.
    """
    import keras

    verdict = keras.layers.Dense(len(CLASS_NAMES), activation="softmax", name=_HEAD)
    network = keras.Model(backbone.input, verdict(backbone.output), name="crackmodel")
    verdict.set_weights(head.get_layer(_HEAD).get_weights())
    return network


def with_features(network: keras.Model) -> keras.Model:
    """Give a network its pooled features as a second output.

    Args:
        network: From `attach_head`, or a `model.keras`; its layers are shared.

    Returns:
        A model from float32 [n, 160, 160, 3], 0..255, to two outputs: float32 [n, 2], the probabilities of
        `CLASS_NAMES`, and float32 [n, 1280].
    """
    import keras

    pooled = network.get_layer(_POOLED).output
    return keras.Model(network.input, [network.output, pooled], name="crackmodel_with_features")
