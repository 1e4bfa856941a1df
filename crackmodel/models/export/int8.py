"""Int8 quantisation: twice as fast, published only if accuracy holds.

Every convolution and the pooling are integers, by post-training quantisation: weights per channel,
activations by the range they have on training images (Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). Pixels go in and probabilities come
out as in `model.tflite`, so the same engine runs both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelExportFailed
from crackmodel.models.card.card import Int8Check, Int8Record
from crackmodel.models.evaluation.scored_images import ScoredImages, score_files
from crackmodel.models.export.litert import conversion_errors, trace_tile
from crackmodel.models.inference.engines import Engine, LiteRTEngine

if TYPE_CHECKING:
    import keras

REPRESENTATIVE: Final = 200
"""Training images that the ranges of activations are taken from. Each costs the converter 26 ms."""

LEAST_AGREEMENT: Final = 0.995
MOST_ACCURACY_LOST: Final = 0.001

TEST: Final = "test"
"""The split's own test part."""

NOT_ASKED: Final = "switched off for this training"

# The head stays float: 2,562 multiplications that cost nothing. Eight bits of softmax leave 27 different
# probabilities for METU's 2,000 test images instead of 1,100: useless for a report sorted by probability.
_FLOAT_OPERATIONS: Final = ("FULLY_CONNECTED", "SOFTMAX")


def _to_int8(network: keras.Model, tiles: npt.NDArray[np.uint8]) -> bytes:
    """Quantise a network, as `litert.to_litert` takes it, by the ranges on uint8 tiles [n, 160, 160, 3].

    Raises:
        ModelExportFailed: TensorFlow cannot quantise it.
    """
    import tensorflow as tf

    def representative() -> Iterator[list[npt.NDArray[np.float32]]]:
        for tile in tiles:
            yield [tile[None].astype(np.float32)]

    with conversion_errors("quantise the network"), warnings.catch_warnings():
        # The debugger's own interpreter is deprecated, and the ranges are taken just below.
        warnings.simplefilter("ignore", UserWarning)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([trace_tile(network)])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        # TensorFlow's way to leave operations in float ("selective quantization") goes by its debugger.
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_FLOAT_OPERATIONS))
        selective = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=representative, debug_options=options
        )
        content: bytes = selective.get_nondebug_quantized_model()
    return content


def write_int8(
    path: Path,
    network: keras.Model,
    tiles: npt.NDArray[np.uint8],
    tests: Mapping[str, ScoredImages],
    temperature: float,
    threshold: float,
) -> Int8Record:
    """Quantise a network and write it if it passes the check.

    Args:
        path: The file to write.
        network: As for `litert.to_litert`.
        tiles: uint8 [n, 160, 160, 3], some hundred training images of both classes; n > 0.
        tests: The float model's probabilities by set; `TEST` is the split's test part.
        temperature: The float model's.
        threshold: The float model's.

    Returns:
        What became of it. A network that cannot be quantised is no fault of the float model: the record
        says why.
    """
    try:
        content = _to_int8(network, tiles)
    except ModelExportFailed as fault:
        return Int8Record(False, fault.problem.rstrip("."))
    engine = LiteRTEngine(content, temperature=temperature, name="litert-int8")
    record = _check_int8(engine, tests, threshold, len(tiles))
    if record.published:
        path.write_bytes(content)
    return record


def pick_representative(
    labels: npt.NDArray[np.integer], train: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.int64]:
    """Draw up to `REPRESENTATIVE` training rows, half of them cracks."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(train[labels[train] == label])[: REPRESENTATIVE // 2] for label in (0, 1)]
    return np.sort(np.concatenate(drawn))


def _check_int8(
    engine: Engine, sets: Mapping[str, ScoredImages], threshold: float, representative: int
) -> Int8Record:
    """Compare int8 with float verdicts and decide on publication.

    It has to pass on the split's test part, and on all sets together where there are more.
    """
    verdicts = {name: _verdicts(engine, scored, threshold) for name, scored in sets.items()}
    found = {name: _compare_verdicts(*three) for name, three in verdicts.items()}
    together = _compare_verdicts(
        *(np.concatenate([three[place] for three in verdicts.values()]) for place in range(3))
    )
    reason, published = "", True
    for words, check in ((f"the {TEST} part", found[TEST]), ("all test images together", together)):
        reason = (
            f"on {words} ({check.images:,} images) {check.agreement:.2%} of the verdicts are the float "
            f"model's and accuracy changes by {check.accuracy_change * 100:+.2f} points; "
            f"at least {LEAST_AGREEMENT:.1%} and {-MOST_ACCURACY_LOST * 100:+.1f} are required"
        )
        published = check.agreement >= LEAST_AGREEMENT and check.accuracy_change >= -MOST_ACCURACY_LOST
        if not published:
            break
    return Int8Record(published, reason, representative, found)


def _compare_verdicts(
    labels: npt.NDArray[np.integer], original: npt.NDArray[np.bool_], quantised: npt.NDArray[np.bool_]
) -> Int8Check:
    """Compare the verdicts of float and int8 model: agreement and change in accuracy."""
    right, right_before = int(np.sum(quantised == (labels == 1))), int(np.sum(original == (labels == 1)))
    images = max(len(labels), 1)  # files may have vanished since they were scored: nothing agrees then
    return Int8Check(
        images=len(labels),
        agreement=int(np.sum(original == quantised)) / images,
        accuracy=right / images,
        accuracy_change=(right - right_before) / images,
    )


def _verdicts(
    engine: Engine, scored: ScoredImages, threshold: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    rows, quantised, _, _ = score_files(engine, scored.root, scored.files)
    return scored.labels[rows], scored.probabilities[rows] >= threshold, quantised >= threshold
