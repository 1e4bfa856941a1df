"""Mixed precision: convolutions in bfloat16, weights and everything that decides in float32.

bfloat16 has float32's range, so no gradient vanishes and no loss has to be scaled, on CPUs and GPUs alike;
float16 would need that. Micikevicius et al., "Mixed Precision Training", ICLR 2018; Kalamkar et al., "A
Study of BFLOAT16 for Deep Learning Training", 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from crackmodel.settings import Precision

if TYPE_CHECKING:
    import keras

_POLICY: Final = "mixed_bfloat16"


def in_precision(network: keras.Model, precision: Precision) -> keras.Model:
    """Copy a network into the precision that it is trained in.

    Its weights are float32 in either case and in the same order: `get_weights` of one fits `set_weights` of
    the other. What is exported is the network that was given, never the one in mixed precision.

    Args:
        network: From `attach_head`, in float32.
        precision: `float32` returns the network itself. `mixed` returns a copy whose backbone calculates in
            bfloat16; scaling of pixels, pooling and the softmax stay as they are.
    """
    if precision == "float32":
        return network
    import keras

    exact = {layer.name for layer in network.layers}

    def copy(layer: keras.layers.Layer) -> Any:
        settings = layer.get_config()
        if layer.name not in exact:
            settings["dtype"] = _POLICY
        return type(layer).from_config(settings)

    twin = keras.models.clone_model(network, clone_function=copy, recursive=True)
    twin.set_weights(network.get_weights())
    return twin
