from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from crackmodel.models.evaluation.intervals import _Weighted, bootstrap, reliability


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """300 labels, and probabilities that know something of them, with many ties."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 300)
    return labels, np.round(np.clip(labels * 0.3 + rng.uniform(0, 0.7, 300), 0, 1), 1)


def test_weighted_ranking_is_scikit_learns(answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = answers
    weights = np.random.default_rng(1).integers(0, 4, 300).astype(float)

    found = _Weighted(labels, probabilities, 0.5).metrics(weights)

    assert found["auroc"] == pytest.approx(
        metrics.roc_auc_score(labels, probabilities, sample_weight=weights)
    )
    assert found["average_precision"] == pytest.approx(
        metrics.average_precision_score(labels, probabilities, sample_weight=weights)
    )


def test_interval_of_accuracy_is_the_binomials(answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = answers
    accuracy = np.mean(labels == (probabilities >= 0.5))
    expected = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 300)

    found = bootstrap(labels, probabilities, 0.5)["accuracy"]

    assert accuracy - found.low == pytest.approx(expected, rel=0.15)
    assert found.high - accuracy == pytest.approx(expected, rel=0.15)


def test_every_interval_holds_its_metric_and_follows_the_seed(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, probabilities = answers
    verdicts = probabilities >= 0.5
    point = {
        "precision": metrics.precision_score(labels, verdicts),
        "recall": metrics.recall_score(labels, verdicts),
        "f1": metrics.f1_score(labels, verdicts),
        "auroc": metrics.roc_auc_score(labels, probabilities),
        "average_precision": metrics.average_precision_score(labels, probabilities),
        "brier": metrics.brier_score_loss(labels, probabilities),
    }

    found = bootstrap(labels, probabilities, 0.5, resamples=200)

    for name, value in point.items():
        assert found[name].low < value < found[name].high
    assert found == bootstrap(labels, probabilities, 0.5, resamples=200)
    assert found != bootstrap(labels, probabilities, 0.5, resamples=200, seed=1)


def test_images_of_one_photograph_widen_the_interval(answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = answers
    many, scores = labels.repeat(10), probabilities.repeat(10)
    photographs = [str(number) for number in np.arange(300).repeat(10)]

    alone = bootstrap(many, scores, 0.5, resamples=200)["accuracy"]
    together = bootstrap(many, scores, 0.5, groups=photographs, resamples=200)["accuracy"]

    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_set_of_one_class_has_no_interval_for_its_ranking() -> None:
    found = bootstrap(np.zeros(20, int), np.linspace(0, 0.4, 20), 0.5, resamples=20)

    assert found["accuracy"].low == 1
    assert not {"auroc", "average_precision", "recall", "f1"} & set(found)


def test_reliability_is_the_one_computed_by_hand() -> None:
    found = reliability(np.array([0, 1, 1, 1]), np.array([0.12, 0.18, 0.9, 1.0]))

    assert found.images.tolist() == [2, 2]
    assert found.predicted == pytest.approx([0.15, 0.95])
    assert found.observed == pytest.approx([0.5, 1.0])
    assert found.error == pytest.approx((0.35 * 2 + 0.05 * 2) / 4)


def test_single_group_gives_no_interval(answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = answers

    assert bootstrap(labels, probabilities, 0.5, groups=["pier"] * len(labels)) == {}
