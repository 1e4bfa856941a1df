from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from crackmodel.errors import DatasetError, UsageError
from crackmodel.models.card.card import Metrics
from crackmodel.models.card.metric_names import metric_text
from crackmodel.models.evaluation.evaluate import evaluate_model, name_datasets
from crackmodel.models.evaluation.evaluation_page import group_table
from crackmodel.models.evaluation.examples import most_wrong, shown_places, some_right
from crackmodel.models.evaluation.figures import file_name
from crackmodel.models.evaluation.html_page import Picture, Table, write_page
from crackmodel.models.evaluation.metrics import EvaluatedSet, measure_groups
from crackmodel.models.evaluation.scored_images import ScoredImages
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion


@pytest.fixture(scope="module")
def builtin() -> ModelVersion:
    return Registry("nowhere").resolve("builtin")


@pytest.fixture
def slabs(drawn_dataset: Path, tmp_path: Path) -> Path:
    """The drawn data set, to be changed at will."""
    return shutil.copytree(drawn_dataset, tmp_path / "slabs")


class _Loads(HTMLParser):
    """Collects what a page would load, and the text it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _read(page: Path) -> _Loads:
    reader = _Loads()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def test_evaluation_counts_every_image_and_shows_all_on_one_page(
    builtin: ModelVersion, slabs: Path, tmp_path: Path
) -> None:
    (slabs / "cracked" / "<b>broken.png").write_bytes(b"nothing")

    found = evaluate_model(builtin, [slabs], out=tmp_path / "out")

    metrics = found.sets["slabs"].metrics
    counts = (
        metrics.true_positives, metrics.false_negatives, metrics.false_positives, metrics.true_negatives,
    )  # fmt: skip
    assert sum(counts) == metrics.images == 80
    assert metrics.intervals["accuracy"].low <= metrics.accuracy <= metrics.intervals["accuracy"].high
    page = _read(found.page)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert len(page.sources) >= 5
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert metric_text(metrics, "accuracy") in page.words
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert record["sets"]["slabs"]["accuracy"] == metrics.accuracy
    assert [bad["file"] for bad in record["sets"]["slabs"]["unusable"]] == ["cracked/<b>broken.png"]
    assert all((tmp_path / "out" / name).is_file() for name in record["files"])


def test_predictions_agree_with_the_metrics(builtin: ModelVersion, slabs: Path, tmp_path: Path) -> None:
    found = evaluate_model(builtin, [slabs], out=tmp_path / "out")

    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = [row["label"] == row["verdict"] for row in rows]
    assert len(rows) == 80
    assert np.mean(right) == pytest.approx(found.sets["slabs"].metrics.accuracy)


def test_page_is_written_beside_the_user_by_name(
    builtin: ModelVersion, slabs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    found = evaluate_model(builtin, ["slabs"])

    assert re.fullmatch(r"evaluation-builtin-v\d+-slabs", str(found.directory))
    assert found.page.is_file()


def test_second_evaluation_replaces_the_first_and_nothing_else(
    builtin: ModelVersion, slabs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate_model(builtin, [slabs], out=out)
    (out / "notes.txt").write_text("mine")
    slabs.rename(tmp_path / "walls")

    evaluate_model(builtin, [tmp_path / "walls"], out=out)

    assert not list(out.glob("*slabs*"))
    assert list(out.glob("confusion_walls.png"))
    assert (out / "notes.txt").read_text() == "mine"


def test_folder_with_something_else_is_left_alone(builtin: ModelVersion, slabs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not an evaluation"):
        evaluate_model(builtin, [slabs], out=slabs)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        evaluate_model(builtin, [slabs], out=tmp_path / "file")
    assert sorted(entry.name for entry in slabs.iterdir()) == ["cracked", "plain"]


def test_same_picture_in_both_classes_is_refused_by_name(
    builtin: ModelVersion, slabs: Path, tmp_path: Path
) -> None:
    shutil.copy(slabs / "cracked" / "03.png", slabs / "plain" / "copy.png")

    with pytest.raises(DatasetError, match=r"cracked/03\.png = plain/copy\.png"):
        evaluate_model(builtin, [slabs], out=tmp_path / "out")


def test_several_data_sets_are_measured_each_alone(
    builtin: ModelVersion, slabs: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(slabs, tmp_path / "deck" / "test")
    for number in range(30):
        (other / "plain" / f"{number:02}.png").unlink()

    found = evaluate_model(builtin, [slabs, other], out=tmp_path / "out")

    assert {name: each.metrics.images for name, each in found.sets.items()} == {"slabs": 80, "deck/test": 50}


def test_data_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both be called 'walls'"):
        name_datasets([tmp_path / "a" / "walls", tmp_path / "b" / "walls"])


def test_a_data_set_is_named_alike_by_path_and_by_uri(slabs: Path) -> None:
    assert name_datasets([slabs.as_uri()]).keys() == name_datasets([slabs]).keys() == {"slabs"}
    with pytest.raises(DatasetError, match="s3://b/x is in an object store"):
        name_datasets(["s3://b/x"])


def _scored(labels: Sequence[int], probabilities: Sequence[float], *groups: str) -> ScoredImages:
    files = tuple(f"{row}.png" for row in range(len(labels)))
    arrays = np.asarray(labels, np.int8), np.asarray(probabilities, np.float32)
    return ScoredImages(Path(), files, *arrays, (), groups=groups or None)


def test_most_wrong_shows_both_kinds_of_mistake() -> None:
    labels = np.array([1] * 3 + [0] * 30)
    probabilities = np.concatenate([[0.4, 0.1, 0.9], np.linspace(0.5, 0.99, 30)])

    rows = most_wrong(_scored(labels, probabilities), 0.5)

    assert rows[:2].tolist() == [1, 0]
    assert rows[2:].tolist() == list(range(32, 22, -1))


def test_maps_are_shown_of_cracks_found_and_of_mistakes() -> None:
    labels = np.array([1] * 20 + [0] * 20)
    probabilities = np.where(labels == 1, 0.9, 0.1)
    probabilities[[3, 25]] = [0.2, 0.8]

    rows = shown_places(_scored(labels, probabilities), 0.5)

    assert len(rows) == 6
    assert labels[rows[:3]].all()
    assert (probabilities[rows[:3]] > 0.5).all()
    assert rows[3:5].tolist() == [3, 25]
    assert labels[rows[5]] == 0


def test_right_examples_are_right_and_of_both_classes() -> None:
    labels = np.tile([0, 1], 50)
    probabilities = np.where(np.arange(100) < 50, labels, 1 - labels).astype(float)

    rows = some_right(_scored(labels, probabilities), 0.5)

    assert len(rows) == 12
    assert labels[rows].sum() == 6
    assert rows.max() < 50


def test_groups_are_tabulated_with_the_worst_first() -> None:
    scored = _scored([1, 0, 1, 0], [0.9, 0.1, 0.2, 0.8], "pier", "pier", "deck", "deck")
    metrics = Metrics(4, 2, 0.5, 0.5, 0.5, 0.5, 0.5, None, None, 0.3, 1, 1, 1, 1)

    table = group_table("bridge", EvaluatedSet(scored, metrics))

    assert table is not None
    assert table.rows == [
        ["deck", "2", "1", "1", "1", "0.0000", "0.0000", "0.0000", "0.0000"],
        ["pier", "2", "1", "0", "0", "1.0000", "1.0000", "1.0000", "1.0000"],
    ]


def test_group_says_nothing_of_what_it_does_not_define() -> None:
    scored = _scored([0, 0], [0.1, 0.2], "pier", "pier")

    pier = measure_groups(scored, 0.5)["pier"]

    assert (pier.images, pier.cracks, pier.accuracy, pier.true_negatives) == (2, 0, 1.0, 2)
    assert (pier.precision, pier.recall, pier.auroc) == (None, None, None)


def test_groups_are_found_in_names_and_measured_one_by_one(
    builtin: ModelVersion, slabs: Path, tmp_path: Path
) -> None:
    found = evaluate_model(builtin, [slabs], group_by=r"/(\d)", out=tmp_path / "out")

    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    groups = record["sets"]["slabs"]["groups"]
    assert list(groups) == ["0", "1", "2", "3"]
    assert {group["images"] for group in groups.values()} == {20}
    assert sum(group["accuracy"] for group in groups.values()) / 4 == pytest.approx(
        found.sets["slabs"].metrics.accuracy
    )
    assert "slabs by group" in _read(found.page).words


def test_expression_that_names_no_group_is_refused(
    builtin: ModelVersion, slabs: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no capture group"):
        evaluate_model(builtin, [slabs], group_by="cracked", out=tmp_path / "out")
    with pytest.raises(DatasetError, match="names no group for 40 of 80 images"):
        evaluate_model(builtin, [slabs], group_by="(cracked)", out=tmp_path / "out")


def test_page_escapes_whatever_it_is_told(tmp_path: Path) -> None:
    nasty = '<script>alert(1)</script>\udcff&"'
    (tmp_path / "a.png").write_bytes(b"png")

    write_page(
        tmp_path / "index.html", nasty, [(nasty, nasty)], [Table(nasty, [nasty], [[nasty, nasty]])],
        [Picture(tmp_path / "a.png", nasty)],
    )  # fmt: skip

    page = _read(tmp_path / "index.html")

    assert "script" not in page.tags
    assert page.sources == ["data:image/png;base64,cG5n"]


def test_files_that_are_no_pictures_need_no_group(builtin: ModelVersion, slabs: Path, tmp_path: Path) -> None:
    (slabs / "cracked" / "Thumbs.db").write_bytes(b"not a picture")

    found = evaluate_model(builtin, [slabs], group_by=r"/(\d)", out=tmp_path / "out")

    assert [bad.file for bad in found.sets["slabs"].scored.bad] == ["cracked/Thumbs.db"]
    assert set(found.sets["slabs"].scored.groups or ()) >= {"0", "1"}


def test_pictures_of_sets_with_like_names_do_not_meet() -> None:
    names = ["test:walls", "test_walls", "test walls"]

    assert len({file_name(name) for name in names}) == 3
