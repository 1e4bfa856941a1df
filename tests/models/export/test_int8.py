"""The int8 model: what it gives, when it is published, and what scoring with it leaves in a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from crackmodel.errors import ModelNotFound
from crackmodel.models.card.card import Card, Int8Record
from crackmodel.models.datasets.labelled import find_images, read_tiles
from crackmodel.models.evaluation.scored_images import ScoredImages
from crackmodel.models.export.int8 import _check_int8, _compare_verdicts, pick_representative
from crackmodel.models.inference.engines import Scored
from crackmodel.models.inference.model_file import build_engine, read_model_file
from crackmodel.models.registry.registry import PRETRAINED, Registry
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.reports.reading.query import open_report
from crackmodel.scoring.run import score_survey

Sets = dict[str, ScoredImages]


class Told:
    """An engine that says of its n-th tile what it was told to."""

    name = "told"

    def __init__(self, probabilities: np.ndarray) -> None:
        self.left = list(probabilities)

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        return self.score(tiles).probabilities

    def score(self, tiles: np.ndarray) -> Scored:
        return Scored(np.array([self.left.pop(0) for _ in tiles], np.float32), None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 names of one small picture."""
    folder = tmp_path_factory.mktemp("pictures")
    cv2.imwrite(str(folder / "0.png"), np.full((64, 64, 3), 128, np.uint8))
    for number in range(1, 2000):
        (folder / f"{number}.png").symlink_to(folder / "0.png")
    return folder


@pytest.fixture
def sets(pictures: Path) -> Callable[..., Sets]:
    """Test sets of given sizes, half cracks, that the float model judges right."""

    def make(**sizes: int) -> Sets:
        made = {}
        for name, size in sizes.items():
            labels = np.arange(size, dtype=np.int8) % 2
            files = tuple(f"{number}.png" for number in range(size))
            made[name] = ScoredImages(pictures, files, labels, labels.astype(np.float32), ())
        return made

    return make


def _with_mistakes(size: int, *mistakes: int) -> np.ndarray:
    said = np.arange(size) % 2
    said[list(mistakes)] = 1 - said[list(mistakes)]
    return said


def test_int8_that_agrees_is_published_with_its_figures(sets: Callable[..., Sets]) -> None:
    record = _check_int8(Told(_with_mistakes(1000, 7)), sets(test=1000), 0.5, 200)

    assert record.published
    assert record.representative == 200
    check = record.sets["test"]
    assert (check.images, check.agreement, check.accuracy) == (1000, 0.999, 0.999)
    assert check.accuracy_change == pytest.approx(-0.001)
    assert "99.90% of the verdicts" in record.reason


def test_int8_that_loses_accuracy_is_not_published(sets: Callable[..., Sets]) -> None:
    record = _check_int8(Told(_with_mistakes(1000, 7, 8)), sets(test=1000), 0.5, 200)

    assert record.sets["test"].agreement == 0.998
    assert not record.published
    assert "accuracy changes by -0.20 points" in record.reason


def test_int8_that_disagrees_is_not_published_though_accuracy_stays(sets: Callable[..., Sets]) -> None:
    given = sets(test=1000)
    # The float model has six mistakes, the int8 model six others.
    wrong_before = _with_mistakes(1000, *range(6)).astype(np.float32)
    given["test"] = dataclasses.replace(given["test"], probabilities=wrong_before)

    record = _check_int8(Told(_with_mistakes(1000, *range(6, 12))), given, 0.5, 200)

    assert record.sets["test"].accuracy_change == 0
    assert record.sets["test"].agreement == pytest.approx(0.988)
    assert not record.published


def test_further_test_sets_count_together_with_the_test_part(sets: Callable[..., Sets]) -> None:
    def told(*mistakes: int) -> Told:
        return Told(np.concatenate([_with_mistakes(1000), _with_mistakes(1000, *mistakes)]))

    few = _check_int8(told(1), sets(test=1000, deck=1000), 0.5, 200)
    many = _check_int8(told(1, 2, 3), sets(test=1000, deck=1000), 0.5, 200)

    assert few.published
    assert not many.published
    assert "all test images together (2,000 images)" in many.reason
    assert many.sets["test"].agreement == 1


def test_verdicts_are_compared_one_by_one() -> None:
    check = _compare_verdicts(
        np.array([1, 1, 0, 0]), np.array([True, False, False, True]), np.array([True, True, False, False])
    )

    assert (check.agreement, check.accuracy, check.accuracy_change) == (0.5, 1.0, 0.5)


def test_ranges_are_taken_from_training_images_of_both_classes() -> None:
    labels = np.array([0, 1] * 500)
    train = np.arange(0, 900)

    rows = pick_representative(labels, train, seed=1)

    assert len(np.unique(rows)) == 200
    assert labels[rows].sum() == 100
    assert rows.max() < 900
    assert rows.tolist() != pick_representative(labels, train, seed=2).tolist()


@pytest.fixture(scope="module")
def quantised(drawn_dataset: Path, weights: Path) -> tuple[bytes, bytes, np.ndarray]:
    """A network with a head fitted to drawn cracks, as float and as int8 LiteRT, and drawn tiles."""
    pytest.importorskip("tensorflow")
    from crackmodel.models.export.int8 import _to_int8
    from crackmodel.models.export.litert import to_litert
    from crackmodel.models.network import attach_head, build_backbone, build_head, with_features

    images = find_images(drawn_dataset)
    tiles = read_tiles(images.root, images.files).tiles
    backbone, head = build_backbone(weights), build_head()
    features = np.asarray(backbone(tiles.astype(np.float32), training=False))
    centred = features[images.labels == 1].mean(axis=0) - features[images.labels == 0].mean(axis=0)
    direction = (8 * centred / (features @ centred).std()).astype(np.float32)
    middle = np.median(features @ direction).astype(np.float32)
    head.get_layer("verdict").set_weights(
        [np.stack([-direction, direction], axis=1) / 2, np.array([middle, -middle]) / 2]
    )
    network = with_features(attach_head(backbone, head))
    return to_litert(network), _to_int8(network, tiles[::4]), tiles


@pytest.fixture
def walls(quantised: tuple[bytes, bytes, np.ndarray], card: Card, tmp_path: Path) -> ModelVersion:
    """A published version with both models."""
    registry = Registry(tmp_path / "models")
    with registry.staging("walls") as staged:
        (staged / "model.tflite").write_bytes(quantised[0])
        (staged / "model-int8.tflite").write_bytes(quantised[1])
        return registry.publish(
            "walls", staged, dataclasses.replace(card, int8=Int8Record(True, "it agrees"))
        )


@pytest.mark.integration
def test_int8_model_is_small_and_says_nearly_the_same(
    walls: ModelVersion, quantised: tuple[bytes, bytes, np.ndarray]
) -> None:
    original, small, tiles = quantised

    exact, features = dataclasses.astuple(build_engine(read_model_file(walls)).score(tiles))
    rounded, rounded_features = dataclasses.astuple(
        build_engine(read_model_file(walls, "litert-int8")).score(tiles)
    )

    assert len(small) < len(original) / 3
    assert exact.std() > 0.2
    assert np.abs(rounded - exact).mean() < 0.05
    assert (rounded != exact).any()
    # Random weights lose more to rounding than trained ones.
    assert np.corrcoef(rounded_features.ravel(), features.ravel())[0, 1] > 0.6
    # A softmax in eight bits would leave a handful.
    assert len(np.unique(rounded)) > len(tiles) / 2


@pytest.mark.integration
def test_int8_scores_are_kept_apart_from_float_scores(
    walls: ModelVersion, drawn_dataset: Path, tmp_path: Path
) -> None:
    def score(engine: str) -> int:
        return score_survey(
            drawn_dataset, report=tmp_path / "report", model="walls", models=walls.path.parent.parent,
            engine=engine, workers=0,
        ).skipped  # fmt: skip

    assert [score(engine) for engine in ("litert-int8", "litert", "litert-int8")] == [0, 0, 80]

    found = open_report(tmp_path / "report").sql(
        "select engine, model, model_sha256, count(*) as n from report group by all order by engine"
    )
    assert found.to_pylist() == [
        {"engine": engine, "model": "walls@v1", "model_sha256": walls.card.files[file].sha256, "n": 80}
        for engine, file in (("litert", "model.tflite"), ("litert-int8", "model-int8.tflite"))
    ]


def test_version_without_int8_says_why(card: Card, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")

    def complaint(record: Int8Record | None) -> str:
        with registry.staging("walls") as staged:
            (staged / "model.tflite").write_bytes((PRETRAINED / "model.tflite").read_bytes())
            version = registry.publish("walls", staged, dataclasses.replace(card, int8=record))
        with pytest.raises(ModelNotFound) as caught:
            score_survey(
                tmp_path, report=tmp_path / "report", model=version.reference, models=registry.root,
                engine="litert-int8", workers=0,
            )  # fmt: skip
        return str(caught.value)

    assert "only 91.00% of the verdicts agree" in complaint(
        Int8Record(False, "only 91.00% of the verdicts agree")
    )
    assert "before there were int8 models. Use --engine litert" in complaint(None)
