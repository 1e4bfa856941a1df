from __future__ import annotations

import numpy as np
import pytest

from crackmodel.models.evaluation.calibration import (
    TEMPERATURES,
    choose_threshold,
    fit_temperature,
)
from crackmodel.models.evaluation.metrics import measure


def test_overconfident_margins_are_cooled_down() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-honest))).astype(int)

    calibration = fit_temperature(honest * 3, labels)

    assert calibration.temperature == pytest.approx(3, rel=0.1)
    assert "validation" in calibration.method


def test_faultless_validation_does_not_make_certain() -> None:
    calibration = fit_temperature(np.array([-4.0, -5.0, 4.0, 5.0]), np.array([0, 0, 1, 1]))

    assert calibration.temperature == pytest.approx(TEMPERATURES[0], rel=0.01)


def test_threshold_separates_what_can_be_separated() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    probabilities = np.concatenate([np.linspace(0, 0.61, 10), np.linspace(0.68, 1, 10)])

    assert choose_threshold(labels, probabilities).value == 0.65


def test_false_alarms_weigh_as_in_a_survey() -> None:
    # Above 0.6 one crack of 20 is missed; below, one clear tile of 20 is an alarm, in nine times as many.
    labels = np.array([0] * 20 + [1] * 20)
    probabilities = np.array([0.01] * 19 + [0.6] + [0.55] + [0.68] * 19)

    assert choose_threshold(labels, probabilities).value == 0.65


def test_highest_of_equal_thresholds_is_taken_but_not_certainty() -> None:
    assert choose_threshold(np.array([0, 0, 1, 1]), np.array([0.01, 0.02, 0.78, 0.79])).value == 0.75
    assert choose_threshold(np.array([0, 0, 1, 1]), np.array([0.01, 0.02, 0.98, 0.99])).value == 0.9


def test_threshold_near_certainty_is_taken_only_where_it_is_better() -> None:
    labels = np.array([0] * 100 + [1] * 100)
    sure = np.r_[np.full(99, 0.01), 0.95, np.full(100, 0.9985)]

    assert choose_threshold(labels, sure).value == 0.96
    assert choose_threshold(labels, np.r_[np.full(99, 0.01), 0.9955, np.full(100, 0.9985)]).value == 0.996
    assert choose_threshold(labels, np.r_[np.full(100, 0.01), np.full(100, 0.9985)]).value == 0.9


def test_threshold_for_a_recall_is_the_highest_that_reaches_it() -> None:
    # 20 cracks: 0.95 of them are 19, so the second lowest decides; false alarms have no say.
    labels = np.array([1] * 20 + [0] * 5)
    probabilities = np.concatenate([[0.11, 0.3456], np.linspace(0.6, 0.99, 18), [0.5] * 5]).astype(np.float32)

    chosen = choose_threshold(labels, probabilities, target_recall=0.95)

    assert chosen.value == 0.345
    assert chosen.target_recall == 0.95
    assert measure(labels, probabilities, chosen.value).recall == 0.95
    assert measure(labels, probabilities, chosen.value + 0.001).recall < 0.95
    assert "for a recall of 0.95 on the validation part, where it is 0.9500" in chosen.chosen


def test_threshold_for_a_recall_stays_below_certainty() -> None:
    labels = np.array([0, 0, 1, 1])

    assert choose_threshold(labels, np.array([0.1, 0.2, 0.98, 0.99]), target_recall=1).value == 0.9


def test_recall_out_of_reach_is_said_to_be() -> None:
    labels = np.array([0, 1, 1, 1, 1])

    chosen = choose_threshold(labels, np.array([0.001, 0.002, 0.7, 0.8, 0.9]), target_recall=0.9)

    assert chosen.value == 0.01
    assert "not reached: it is 0.7500 at 0.01" in chosen.chosen
