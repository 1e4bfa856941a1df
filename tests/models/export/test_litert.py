"""What a LiteRT export returns: the verdict's vector, and the features beside it, whatever their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf

from crackmodel.errors import ClusterError, ModelCorrupt
from crackmodel.models.export.litert import to_litert
from crackmodel.models.inference.engines import KerasEngine, LiteRTEngine, LiteRTModel
from crackmodel.models.network import with_features
from tests.models.drawings import draw_clear, draw_crack


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network with the layers' names of the real one, quick to export."""
    keras.utils.set_random_seed(4)
    tile = keras.Input((160, 160, 3), name="tile")
    pixels = keras.layers.Rescaling(1 / 255)(tile)
    maps = keras.layers.Conv2D(1280, 7, strides=40, activation="relu")(pixels)
    features = keras.layers.GlobalAveragePooling2D(name="features")(maps)
    verdict = keras.layers.Dense(2, activation="softmax", name="verdict")(features)
    return keras.Model(tile, verdict)


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.stack([draw(rng) for draw in (draw_crack, draw_clear) for _ in range(4)])


def test_export_returns_what_keras_does_and_its_features(network: keras.Model, tiles: np.ndarray) -> None:
    expected = [np.asarray(output) for output in with_features(network)(tiles.astype(np.float32))]

    model = LiteRTModel(to_litert(with_features(network)))
    outputs, features = model.run_with_features(tiles)

    assert (model.width, model.has_features) == (2, True)
    assert expected[1].std(axis=0).max() > 1e-3
    np.testing.assert_allclose(outputs, expected[0], atol=1e-5)
    np.testing.assert_allclose(features, expected[1], atol=1e-4 * expected[1].max())
    np.testing.assert_array_equal(model.run(tiles), outputs)


def test_outputs_are_told_apart_in_any_order(network: keras.Model, tiles: np.ndarray) -> None:
    verdict, pooled = with_features(network).outputs
    turned = keras.Model(network.input, [pooled, verdict])

    straight = LiteRTEngine(to_litert(with_features(network))).score(tiles)
    reverse = LiteRTEngine(to_litert(turned)).score(tiles)

    np.testing.assert_array_equal(reverse.probabilities, straight.probabilities)
    np.testing.assert_array_equal(reverse.features, straight.features)


def test_model_of_one_output_scores_without_features(network: keras.Model, tiles: np.ndarray) -> None:
    both = LiteRTEngine(to_litert(with_features(network)))
    alone = LiteRTEngine(to_litert(network))

    assert alone.score(tiles).features is None
    np.testing.assert_allclose(alone.predict(tiles), both.predict(tiles), atol=1e-6)


def test_model_of_other_outputs_is_refused(network: keras.Model) -> None:
    verdict, _ = with_features(network).outputs
    pair = keras.Model(network.input, [verdict, keras.layers.Dense(3)(verdict)])

    with pytest.raises(ModelCorrupt, match=r"outputs of [23], [23] numbers"):
        LiteRTModel(to_litert(pair))


def test_keras_engine_tells_the_same_features(
    network: keras.Model, tiles: np.ndarray, tmp_path: Path
) -> None:
    network.save(tmp_path / "model.keras")

    litert = LiteRTEngine(to_litert(with_features(network)), temperature=2.0).score(tiles)
    engine = KerasEngine(tmp_path / "model.keras", temperature=2.0)

    scored = engine.score(tiles)
    np.testing.assert_allclose(scored.probabilities, litert.probabilities, atol=1e-5)
    np.testing.assert_allclose(scored.features, litert.features, atol=1e-4 * litert.features.max())
    assert engine.score(tiles[:0]).features.shape == (0, 1280)


def test_keras_engine_takes_smaller_batches_where_memory_is_short(
    network: keras.Model, tiles: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.save(tmp_path / "model.keras")
    engine = KerasEngine(tmp_path / "model.keras")
    expected = engine.score(tiles)
    run, batches = engine._run, []

    def crowded(some: np.ndarray) -> Any:
        batches.append(len(some))
        if len(some) > room:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return run(some)

    monkeypatch.setattr(engine, "_run", crowded)
    room = 3
    scored = engine.score(tiles)
    np.testing.assert_allclose(scored.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(scored.features, expected.features, atol=1e-5 * expected.features.max())
    assert batches == [8, 4, 2, 2, 2, 2]

    room = 0
    with pytest.raises(ClusterError, match="ResourceExhaustedError: OOM when allocating"):
        engine.score(tiles)
