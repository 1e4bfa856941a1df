"""Distances from the training images: what is far, what the threshold flags, and what survives a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from crackmodel.errors import ModelCorrupt
from crackmodel.models.card.card import Card, card_from_json, card_to_json
from crackmodel.models.inference.model_file import read_distribution
from crackmodel.models.inference.out_of_distribution import TrainingDistribution, describe_training
from crackmodel.models.registry.registry import Registry


def cloud(seed: int, n: int = 3000, wide: float = 1.0) -> np.ndarray:
    """Features whose square roots lie about a plane: positive, correlated, 40 of them."""
    rng = np.random.default_rng(seed)
    plane = np.random.default_rng(0).normal(0, 0.2, (2, 40))
    roots = 2 + rng.normal(0, wide, (n, 2)) @ plane + rng.normal(0, 0.05, (n, 40))
    return np.square(roots).astype(np.float32)


@pytest.fixture(scope="module")
def known() -> TrainingDistribution:
    return TrainingDistribution.fit(cloud(1), components=2)


def test_distance_is_mahalanobis_with_the_covariance_of_probabilistic_pca(
    known: TrainingDistribution,
) -> None:
    from sklearn.decomposition import PCA

    pca = PCA(2).fit(np.sqrt(cloud(1)).astype(np.float64))
    centred = np.sqrt(cloud(2, 50)) - pca.mean_
    expected = np.sqrt(np.einsum("nd,de,ne->n", centred, pca.get_precision(), centred) / 40)

    np.testing.assert_allclose(known.distances(cloud(2, 50)), expected, rtol=1e-3)


def test_more_of_the_same_is_at_about_1(known: TrainingDistribution) -> None:
    distances = known.distances(cloud(2))

    assert distances.dtype == np.float32
    assert np.sqrt(np.mean(distances**2)) == pytest.approx(1, abs=0.02)


def test_leaving_the_plane_is_farther_than_going_along_it(known: TrainingDistribution) -> None:
    along = np.square(2 + 2 * np.random.default_rng(0).normal(0, 0.2, (2, 40))[:1]).astype(np.float32)
    step = np.linalg.norm(np.sqrt(along) - 2)
    away = np.random.default_rng(7).normal(0, 1, (1, 40))
    beside = np.square(2 + step * away / np.linalg.norm(away)).astype(np.float32)

    assert known.distances(along)[0] < 1
    assert known.distances(beside)[0] > 5


def test_tiny_negative_features_are_taken_as_0(known: TrainingDistribution) -> None:
    features = np.zeros((1, 40), np.float32)

    np.testing.assert_array_equal(known.distances(features - 1e-6), known.distances(features))


def test_no_tiles_have_no_distances(known: TrainingDistribution) -> None:
    assert known.distances(np.empty((0, 40), np.float32)).shape == (0,)


def test_a_file_keeps_every_bit(known: TrainingDistribution) -> None:
    read = TrainingDistribution.from_bytes(known.to_bytes())

    np.testing.assert_array_equal(read.distances(cloud(3, 20)), known.distances(cloud(3, 20)))


@pytest.mark.parametrize("content", [b"", b"not a file", b"PK\x03\x04" * 9])
def test_something_else_is_no_statistics(content: bytes) -> None:
    with pytest.raises(ValueError, match="no statistics"):
        TrainingDistribution.from_bytes(content)


def test_threshold_flags_one_in_a_hundred_of_the_validation_part() -> None:
    distribution, record = describe_training(cloud(1), cloud(2))

    assert np.mean(distribution.distances(cloud(2)) > record.threshold) == pytest.approx(0.01, abs=0.002)
    assert np.mean(distribution.distances(cloud(3)) > record.threshold) == pytest.approx(0.01, abs=0.008)
    assert np.mean(distribution.distances(cloud(4, wide=6)) > record.threshold) > 0.3
    assert record.training_images == 3000
    assert "3,000 images of the validation part" in record.chosen


@pytest.mark.parametrize("n", [2, 5, 50])
def test_few_tiles_do_not_fail(n: int) -> None:
    distribution, record = describe_training(cloud(1, n), cloud(2, n))

    assert np.isfinite(record.threshold)
    assert np.isfinite(distribution.distances(cloud(3, 5))).all()


def publish(folder: Path, card: Card, content: bytes | None) -> Card:
    registry = Registry(folder)
    with registry.staging("slabs") as staged:
        (staged / "model.tflite").write_bytes(b"model")
        if content is not None:
            (staged / "ood.npz").write_bytes(content)
        return registry.publish("slabs", staged, card).card


def test_statistics_are_a_file_of_the_version(
    tmp_path: Path, card: Card, known: TrainingDistribution
) -> None:
    _, record = describe_training(cloud(1), cloud(2))

    published = publish(tmp_path, dataclasses.replace(card, ood=record), known.to_bytes())

    assert card_from_json(card_to_json(published)).ood == record
    assert "ood.npz" in published.files
    read = read_distribution(Registry(tmp_path).resolve("slabs"))
    np.testing.assert_array_equal(read.distances(cloud(3, 9)), known.distances(cloud(3, 9)))


def test_version_without_statistics_has_none(tmp_path: Path, card: Card) -> None:
    publish(tmp_path, card, None)

    assert read_distribution(Registry(tmp_path).resolve("slabs")) is None


@pytest.mark.parametrize("content", [None, b"something else"], ids=["missing", "another file"])
def test_statistics_that_the_card_promises_must_be_there(
    tmp_path: Path, card: Card, content: bytes | None
) -> None:
    _, record = describe_training(cloud(1, 50), cloud(2, 50))
    publish(tmp_path, dataclasses.replace(card, ood=record), content)

    with pytest.raises(ModelCorrupt, match=r"ood\.npz"):
        read_distribution(Registry(tmp_path).resolve("slabs"))
