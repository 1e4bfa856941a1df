from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from crackmodel.errors import ModelCorrupt, ModelNotFound, UsageError
from crackmodel.models.inference.engines import LiteRTEngine, calibrate, log_odds, silence_litert_banner
from crackmodel.models.inference.loading import load_model
from crackmodel.models.inference.model_file import read_model_file
from crackmodel.models.registry.registry import Registry
from tests.models.drawings import draw_clear, draw_crack


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.stack([draw(rng) for draw in (draw_crack, draw_clear) for _ in range(4)])


@pytest.fixture(scope="module")
def engine() -> LiteRTEngine:
    version = Registry("models").resolve("builtin")
    return LiteRTEngine(version.read_file("model.tflite"), temperature=version.temperature)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_temperature_1_returns_the_crack_output_to_the_bit() -> None:
    outputs = softmax(np.random.default_rng(0).normal(0, 9, (100, 2)))

    np.testing.assert_array_equal(calibrate(outputs, 1.0), outputs[:, 1])


def test_temperature_divides_the_log_odds() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (100, 2))
    expected = softmax(logits / 2.5)[:, 1]

    np.testing.assert_allclose(calibrate(softmax(logits), 2.5), expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_certainty_stays_a_probability(temperature: float) -> None:
    certain = np.array([[1, 0], [0, 1], [1, 1e-38], [0.5, 0.5]], np.float32)

    probabilities = calibrate(certain, temperature)

    assert probabilities.dtype == np.float32
    assert np.isfinite(log_odds(certain)).all()
    np.testing.assert_allclose(probabilities, [0, 1, 0, 0.5], atol=1e-6)


def test_tile_scores_alike_alone_and_in_company(engine: LiteRTEngine, tiles: np.ndarray) -> None:
    together = engine.predict(tiles)

    alone = np.concatenate([engine.predict(tile[None]) for tile in tiles])

    assert together.shape == (8,)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(together)) > 1


def test_litert_is_deterministic(engine: LiteRTEngine, tiles: np.ndarray) -> None:
    first = engine.predict(tiles)
    engine.predict(tiles[::-1])

    np.testing.assert_array_equal(engine.predict(tiles), first)


def test_two_interpreters_agree_to_the_bit(engine: LiteRTEngine, tiles: np.ndarray) -> None:
    np.testing.assert_array_equal(load_model().predict(tiles), engine.predict(tiles))


def test_rows_that_are_views_score_like_copies(engine: LiteRTEngine, tiles: np.ndarray) -> None:
    np.testing.assert_array_equal(engine.predict(tiles[::2]), engine.predict(tiles[::2].copy()))


def test_threads_that_load_models_together_leave_the_terminal_where_it_was() -> None:
    before, inside = os.fstat(2), []

    def load(first: threading.Event, second: threading.Event, wait: float) -> None:
        first.wait()
        with silence_litert_banner():
            inside.append(os.fstat(2).st_rdev)
            second.set()
            time.sleep(wait)

    now, then = threading.Event(), threading.Event()
    now.set()
    # The second begins while the first is at it, and would end after it.
    threads = [threading.Thread(target=load, args=(now, then, 0.1))]
    threads.append(threading.Thread(target=load, args=(then, now, 0.2)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert os.path.samestat(os.fstat(2), before)
    assert inside == [Path(os.devnull).stat().st_rdev] * 2


def test_no_tiles_give_no_probabilities(engine: LiteRTEngine) -> None:
    assert engine.predict(np.empty((0, 160, 160, 3), np.uint8)).shape == (0,)


@pytest.mark.parametrize("content", [b"", b"not a model", b"TFL3" * 100])
def test_something_else_is_no_litert_model(content: bytes) -> None:
    with pytest.raises(ModelCorrupt, match="LiteRT cannot read"):
        LiteRTEngine(content)


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="litert, litert-int8, tensorflow"):
        load_model(engine="abacus")


def test_builtin_has_no_keras_model_and_says_so() -> None:
    with pytest.raises(ModelNotFound, match=r"has no model\.keras, which --engine tensorflow needs"):
        read_model_file(Registry("models").resolve("builtin"), "tensorflow")


def test_loaded_model_judges_pictures_of_any_size() -> None:
    model = load_model()
    clear = np.full((227, 300, 3), 150, np.uint8)

    probability = model.crack_probability(clear)

    assert probability < model.version.threshold
    assert not model.is_crack(clear)
    assert probability == pytest.approx(model.crack_probability(clear[:160, :160]), abs=0.01)


def test_models_are_looked_for_where_the_environment_says_unless_a_folder_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRACKMODEL_MODELS", str(tmp_path / "elsewhere"))

    with pytest.raises(ModelNotFound, match=r"no model 'walls' in .*elsewhere"):
        load_model("walls")
    with pytest.raises(ModelNotFound, match=r"no model 'walls' in .*given"):
        load_model("walls", tmp_path / "given")


def test_worker_modules_load_nothing_heavy() -> None:
    script = (
        "import sys, numpy; from crackmodel.models.training import features;"
        "from crackmodel.models.inference.model_file import ModelFile, build_engine;"
        "from crackmodel.models.registry.registry import PRETRAINED;"
        "content = (PRETRAINED / 'model.tflite').read_bytes();"
        "engine = build_engine(ModelFile('builtin@v1', '', 'litert', 1.0, 0.5, content));"
        "engine.predict(numpy.zeros((1, 160, 160, 3), numpy.uint8));"
        "heavy = {'tensorflow', 'keras', 'ray', 'pandas', 'deltalake', 'duckdb', 'pydantic', 'prefect'};"
        "print(sorted(heavy & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert run.stdout.strip() == "[]"


@pytest.mark.integration
def test_keras_engine_refuses_another_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from crackmodel.models.inference.engines import KerasEngine

    (tmp_path / "model.keras").write_bytes(b"not a model")

    with pytest.raises(ModelCorrupt, match="Keras cannot read"):
        KerasEngine(tmp_path / "model.keras")
