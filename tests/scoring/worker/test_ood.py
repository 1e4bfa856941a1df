"""What distances from the training images mean for a picture, however they are measured together."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from crackmodel.models.inference.model_file import ModelFile
from crackmodel.models.inference.out_of_distribution import TrainingDistribution
from crackmodel.scoring.worker.ood import TOGETHER, OutOfDistribution, is_unfamiliar

pytest.importorskip("sklearn")

FEATURES = 16


def features(level: float, n: int, seed: int = 3) -> np.ndarray:
    grain = np.random.default_rng(seed).normal(0, 1, (n, FEATURES))
    return (level + grain).astype(np.float32)


@pytest.fixture(scope="module")
def grey() -> TrainingDistribution:
    """Features of grey tiles, level 100 and thereabouts."""
    levels = np.random.default_rng(1).normal(0, 5, (200, 1)).astype(np.float32)
    return TrainingDistribution.fit(features(100, 200) + levels, components=2)


def model(distribution: TrainingDistribution | None, threshold: float | None = 2.0) -> ModelFile:
    return ModelFile("m@v1", "0" * 64, "litert", 1.0, 0.5, b"", threshold, distribution)


def tell(meter: OutOfDistribution, picture: int, *batches: np.ndarray) -> None:
    listener = meter.listener(picture)
    assert listener is not None
    for batch in batches:
        listener(batch)


def test_picture_of_something_else_is_flagged(grey: TrainingDistribution) -> None:
    meter = OutOfDistribution(model(grey))
    tell(meter, 0, features(100, 6))
    tell(meter, 1, features(9, 6))

    known, other = meter.columns(0), meter.columns(1)

    assert known["ood_score"] < known["ood_threshold"] == 2.0 < other["ood_score"]
    assert (known["ood_fraction"], other["ood_fraction"]) == (0.0, 1.0)
    assert (is_unfamiliar(known), is_unfamiliar(other)) == (False, True)


def test_odd_corner_shows_in_the_share_and_does_not_flag_the_picture(grey: TrainingDistribution) -> None:
    meter = OutOfDistribution(model(grey))
    tell(meter, 0, np.concatenate([features(100, 4), features(9, 2)]))

    assert meter.columns(0)["ood_fraction"] == pytest.approx(1 / 3)
    assert not is_unfamiliar(meter.columns(0))


def test_company_changes_no_distance(grey: TrainingDistribution) -> None:
    pictures = [features(60 + number, size, number) for number, size in enumerate((1, 300, 1, 40, TOGETHER))]
    together = OutOfDistribution(model(grey))
    for number, tiles in enumerate(pictures):
        tell(together, number, *np.array_split(tiles, max(1, len(tiles) // 32)))

    for number, tiles in enumerate(pictures):
        alone = OutOfDistribution(model(grey))
        tell(alone, 0, tiles)
        found, expected = together.columns(number), alone.columns(0)
        assert found["ood_score"] == pytest.approx(expected["ood_score"], rel=1e-5)
        assert found["ood_fraction"] == expected["ood_fraction"]


def test_picture_without_features_has_no_columns(grey: TrainingDistribution) -> None:
    meter = OutOfDistribution(model(grey))
    tell(meter, 1, features(100, 1))

    assert meter.columns(0) == {}
    assert not is_unfamiliar(meter.columns(0))


def test_model_that_cannot_tell_wants_no_features() -> None:
    meter = OutOfDistribution(model(None, None))

    assert meter.listener(0) is None
    assert meter.columns(0) == {}


def test_workers_get_the_statistics_with_the_model(grey: TrainingDistribution) -> None:
    sent = pickle.loads(pickle.dumps(model(grey)))

    assert sent == model(grey)
    np.testing.assert_array_equal(
        sent.distribution.distances(features(90, 3)), grey.distances(features(90, 3))
    )
