from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crackmodel.errors import DatasetError
from crackmodel.models.card.card import Epoch
from crackmodel.models.datasets.labelled import find_images
from crackmodel.models.evaluation.figures import draw_evaluation
from crackmodel.models.evaluation.metrics import EvaluatedSet, measure
from crackmodel.models.evaluation.scored_images import ScoredImages, score_images


class Darkness:
    """An engine that takes dark pixels for cracks."""

    name = "darkness"

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        return (tiles.min(axis=(1, 2, 3)) < 80).astype(np.float32)


def test_metrics_are_those_computed_by_hand() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    probabilities = np.array([0.9, 0.8, 0.2, 0.7, 0.1, 0.1, 0.3, 0.0])

    found = measure(labels, probabilities, 0.5)

    assert (found.images, found.cracks, found.threshold) == (8, 3, 0.5)
    assert (found.true_positives, found.false_positives) == (2, 1)
    assert (found.false_negatives, found.true_negatives) == (1, 4)
    assert found.accuracy == pytest.approx(6 / 8)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.auroc == pytest.approx(13 / 15)  # 15 pairs; 0.2 beats neither 0.7 nor 0.3
    assert found.average_precision == pytest.approx((1 + 1 + 3 / 5) / 3)
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.64 + 0.49 + 0.01 + 0.01 + 0.09) / 8)


def test_probability_at_the_threshold_is_a_crack() -> None:
    assert measure(np.array([0, 1]), np.array([0.2, 0.5]), 0.5).true_positives == 1


@pytest.mark.parametrize("label", [0, 1])
def test_set_of_one_class_has_no_ranking(label: int) -> None:
    found = measure(np.full(4, label), np.array([0.1, 0.2, 0.3, 0.4]), 0.5)

    assert found.auroc is None
    assert found.average_precision is None
    assert (found.precision, found.recall) == (0, 0)


def test_folder_is_scored_in_its_order(drawn_dataset: Path) -> None:
    images = find_images(drawn_dataset)

    scored = score_images(Darkness(), images)

    assert scored.files == images.files
    assert np.mean(scored.probabilities == scored.labels) > 0.95


def test_files_that_are_no_pictures_are_left_out(tmp_path: Path, drawn_dataset: Path) -> None:
    for folder, names in (("crack", ["b.png", "c.png"]), ("clear", ["d.png"])):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes((drawn_dataset / "cracked" / "00.png").read_bytes())
    (tmp_path / "crack" / "a.png").write_bytes(b"nothing")

    scored = score_images(Darkness(), find_images(tmp_path))

    assert scored.files == ("clear/d.png", "crack/b.png", "crack/c.png")
    assert scored.labels.tolist() == [0, 1, 1]
    assert [bad.file for bad in scored.bad] == ["crack/a.png"]


def test_folder_without_a_picture_is_refused(tmp_path: Path) -> None:
    for folder in ("crack", "clear"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"nothing")

    with pytest.raises(DatasetError, match=r"None of the 2 files .* is a picture"):
        score_images(Darkness(), find_images(tmp_path))


def test_pictures_of_a_training_are_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scored = {
        "metu/test": (labels, np.clip(labels * 0.6 + rng.uniform(0, 0.5, 200), 0, 1)),
        "drone": (np.zeros(5, int), np.zeros(5)),
    }
    sets = {
        name: EvaluatedSet(ScoredImages(Path(), (), *pair, bad=()), measure(*pair, 0.5))
        for name, pair in scored.items()
    }
    history = [Epoch(epoch, 1 / epoch, 0.8, 1.1 / epoch, 0.7) for epoch in (1, 2, 3)]

    written = [picture.path for picture in draw_evaluation(tmp_path / "evaluation", sets, history)]

    assert sorted(path.name for path in written) == [
        "confusion_drone.png",
        "confusion_metu_test.png",
        "precision_recall.png",
        "reliability.png",
        "roc.png",
        "training.png",
    ]
    for path in written:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 8000
