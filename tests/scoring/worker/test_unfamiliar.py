"""A survey with a picture of something else in it: the report flags it, and the summary names it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from crackmodel.errors import ClusterError
from crackmodel.models.export.litert import to_litert
from crackmodel.models.inference.engines import LiteRTModel
from crackmodel.models.inference.out_of_distribution import describe_training
from crackmodel.models.network import with_features
from crackmodel.models.registry.registry import Registry
from crackmodel.scoring.run_summary import markdown_summary, plain_summary
from tests.scoring.conftest import Score, rows

pytestmark = pytest.mark.integration


def grey_tiles(seed: int, n: int) -> np.ndarray:
    noise = np.random.default_rng(seed)
    tiles = noise.normal(150, 8, (n, 160, 160, 1)) + noise.normal(0, 6, (n, 1, 1, 1))
    return tiles.repeat(3, axis=3).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`grey@v1` knows what grey patches look like; `grey@v2` is of before models did."""
    keras.utils.set_random_seed(4)
    tile = keras.Input((160, 160, 3))
    maps = keras.layers.Conv2D(1280, 7, strides=40, activation="relu")(keras.layers.Rescaling(1 / 255)(tile))
    features = keras.layers.GlobalAveragePooling2D(name="features")(maps)
    network = keras.Model(tile, keras.layers.Dense(2, activation="softmax")(features))
    litert = to_litert(with_features(network))
    model = LiteRTModel(litert)
    distribution, ood = describe_training(*(model.run_with_features(grey_tiles(s, 60))[1] for s in (1, 2)))
    folder = tmp_path_factory.mktemp("models")
    registry = Registry(folder)
    card = dataclasses.replace(registry.resolve("builtin").card, files={}, ood=ood)
    with registry.staging("grey") as staged:
        network.save(staged / "model.keras")
        (staged / "model.tflite").write_bytes(litert)
        (staged / "ood.npz").write_bytes(distribution.to_bytes())
        registry.publish("grey", staged, card)
    with registry.staging("grey") as staged:
        (staged / "model.tflite").write_bytes(to_litert(network))
        registry.publish("grey", staged, dataclasses.replace(card, ood=None))
    return folder


@pytest.fixture
def album(patches: Path) -> Path:
    """Twelve grey patches, a picture of something colourful, and a file that is no picture."""
    colours = np.random.default_rng(9).integers(0, 255, (5, 5, 3)).astype(np.uint8)
    cv2.imwrite(str(patches / "dog.png"), cv2.resize(colours, (227, 227), interpolation=cv2.INTER_CUBIC))
    (patches / "broken.jpg").write_bytes(b"no picture")
    return patches


def test_picture_of_something_else_is_flagged_and_named(
    score: Score, album: Path, report: Path, models: Path
) -> None:
    result = score(album, model="grey@v1", models=models)

    assert result.unfamiliar == 1
    assert [image.image for image in result.least_familiar] == ["dog.png"]
    assert "1 image looks unlike what the model was trained on" in plain_summary(result)
    assert "dog.png" in plain_summary(result)
    assert "dog.png" in markdown_summary(result).partition("Unlike what")[2]
    scored = {row["image"]: row for row in rows(report)}
    assert scored["dog.png"]["ood_score"] > 2 * scored["00.jpg"]["ood_score"]
    assert scored["dog.png"]["verdict"] in ("crack", "clear")
    assert scored["broken.jpg"]["ood_score"] is None
    assert [row["image"] for row in rows(report, "from unfamiliar")] == ["dog.png"]


def test_both_engines_measure_the_same_distance(
    score: Score, album: Path, tmp_path: Path, models: Path
) -> None:
    found: dict[str, list[Any]] = {}
    for engine in ("litert", "tensorflow"):
        score(album, model="grey@v1", models=models, engine=engine, report=tmp_path / engine)
        found[engine] = [row["ood_score"] for row in rows(tmp_path / engine) if row["verdict"] != "rejected"]

    assert len(found["litert"]) == 13
    np.testing.assert_allclose(found["litert"], found["tensorflow"], rtol=1e-3)


def test_model_of_before_leaves_the_columns_null_and_the_summary_silent(
    score: Score, album: Path, report: Path, models: Path
) -> None:
    result = score(album, model="grey@v2", models=models)

    assert result.unfamiliar is None
    assert "unlike" not in plain_summary(result) + markdown_summary(result).lower()
    assert {row["ood_score"] for row in rows(report)} == {None}


_ON_A_GPU_THAT_RAY_BELIEVES_IN = """
import sys
import ray
from crackmodel.scoring.run import score_survey

# One CPU, so that one worker has to load TensorFlow.
ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
survey, models, report = sys.argv[1:]
score_survey(survey, models=models, report=report, model="grey@v1", engine="tensorflow", gpus_per_task=0.5)
"""


def test_gpu_workers_say_the_same(
    score: Score, album: Path, models: Path, report: Path, tmp_path: Path
) -> None:
    score(album, model="grey@v1", models=models)
    subprocess.run(
        [sys.executable, "-c", _ON_A_GPU_THAT_RAY_BELIEVES_IN, album, models, tmp_path / "gpu"],
        check=True, capture_output=True, timeout=300,
        env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip

    ours, theirs = rows(report), rows(tmp_path / "gpu")
    assert {row["engine"] for row in theirs if row["verdict"] != "rejected"} == {"tensorflow"}
    assert [(row["image"], row["verdict"]) for row in theirs] == [
        (row["image"], row["verdict"]) for row in ours
    ]
    np.testing.assert_allclose(
        [row["crack_probability"] or 0 for row in theirs],
        [row["crack_probability"] or 0 for row in ours],
        atol=1e-4,
    )


def test_gpus_that_ray_does_not_have_are_refused_at_once(
    score: Score, album: Path, models: Path, embedded_ray: None
) -> None:
    with pytest.raises(ClusterError, match=r"A task needs 0\.5 GPUs, and no Ray node has more than 0"):
        score(album, model="grey@v1", models=models, engine="tensorflow", gpus_per_task=0.5, workers=2)
