"""Class activation maps: where a model looks.

    log-odds = mean over 5 x 5 places of (w . features at the place) + b

so what each place adds to the verdict can be read off (Zhou, Khosla, Lapedriza, Oliva, Torralba,
"Learning Deep Features for Discriminative Localization", CVPR 2016). LiteRT gives the features before the
pooling, so that no TensorFlow is needed.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.models.inference.engines import CRACK, silence_litert_banner
from crackmodel.models.network import CLASS_NAMES, FEATURES
from crackmodel.models.preprocessing import TILE_EDGE

_STRIDE: Final = 32
_MAP: Final = (1, TILE_EDGE // _STRIDE, TILE_EDGE // _STRIDE, FEATURES)


def activation_maps(model: bytes, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
    """Compute the share of each place of a tile in its log-odds.

    Args:
        model: The content of `model.tflite`, float.
        tiles: uint8 [n, 160, 160, 3].

    Returns:
        float32 [n, 5, 5], uncalibrated log-odds of a crack: above 0 the place speaks for one, and the mean of
        a map is the log-odds of its tile. None where the model has another architecture.
    """
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings(), silence_litert_banner():
        warnings.simplefilter("ignore", UserWarning)  # keeping all tensors costs memory: 20 MB here
        interpreter: Any = Interpreter(model_content=model, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
    tensors = interpreter.get_tensor_details()
    places = _only(tensors, _MAP)
    kernel, bias = _only(tensors, (len(CLASS_NAMES), FEATURES)), _only(tensors, (len(CLASS_NAMES),))
    if places is None or kernel is None or bias is None:
        return None
    weights, offsets = interpreter.get_tensor(kernel), interpreter.get_tensor(bias)
    direction = weights[CRACK] - weights[1 - CRACK]
    offset = offsets[CRACK] - offsets[1 - CRACK]
    entry = interpreter.get_input_details()[0]["index"]
    maps = np.empty((len(tiles), *_MAP[1:3]), np.float32)
    for tile, row in zip(tiles, maps, strict=True):
        interpreter.set_tensor(entry, tile[None].astype(np.float32))
        interpreter.invoke()
        row[:] = interpreter.get_tensor(places)[0] @ direction + offset
    return maps


def _only(tensors: list[dict[str, Any]], shape: tuple[int, ...]) -> int | None:
    found = [t["index"] for t in tensors if tuple(t["shape"]) == shape and t["dtype"] is np.float32]
    return int(found[0]) if len(found) == 1 else None
