"""Several data sets at once: names of classes, the common list, the split, the card."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from crackmodel.errors import DatasetError, UsageError
from crackmodel.models.datasets.inventory import summarise_dataset
from crackmodel.models.datasets.labelled import BadFile, LabelledImages, find_images, fingerprint, read_tiles
from crackmodel.models.datasets.several import combine, find_datasets
from crackmodel.models.datasets.splits import SplitRule, divide_images


def _folder(root: Path, name: str, **classes: int) -> Path:
    """A data set of empty files."""
    for cls, count in classes.items():
        (root / name / cls).mkdir(parents=True)
        for number in range(count):
            (root / name / cls / f"{number:03}.jpg").touch()
    return root / name


@pytest.fixture
def walls(tmp_path: Path) -> Path:
    return _folder(tmp_path, "walls", cracked=40, intact=60)


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    """A manifest with groups and labels of its own."""
    rows = [f"p/{n}.jpg,{'riss' if n % 2 else 'glatt'},span {n // 4}" for n in range(80)]
    path = tmp_path / "elsewhere" / "deck.csv"
    path.parent.mkdir()
    path.write_text("\n".join(["image,label,group", *rows]) + "\n")
    return path


def test_each_set_keeps_its_own_class_names(walls: Path, deck: Path) -> None:
    found = find_datasets({"walls": walls, "deck": deck}, ["deck=riss"])

    assert [(each.positive, each.negative) for each in found.values()] == [
        ("cracked", "intact"),
        ("riss", "glatt"),
    ]
    images = combine(found)
    assert (images.positive, images.negative) == ("riss, cracked", "glatt, intact")
    assert images.labels.sum() == 80
    assert [each.name for each in images.members] == ["deck", "walls"]


def test_class_without_a_set_means_cracks_wherever_it_occurs(walls: Path, deck: Path) -> None:
    found = find_datasets({"walls": walls, "deck": deck}, ["riss"])

    assert [each.positive for each in found.values()] == ["cracked", "riss"]
    assert find_datasets({"walls": walls, "deck": deck}, ["riss", "intact"])["walls"].positive == "intact"


@pytest.mark.parametrize(
    ("positive", "complaint"),
    [
        ([], "not clear which label of .*deck.csv"),
        (["riss", "spall"], "No data set has a class 'spall'. .*walls: intact, cracked; deck: glatt, riss"),
        (["dock=riss", "riss"], "No data set has a class 'dock=riss'"),
        (["deck=cracked"], "no label 'cracked'"),
        (["riss", "glatt"], "not clear which label of .*deck.csv"),
        (["deck=riss", "deck=glatt"], "two classes of deck, riss and glatt"),
    ],
)
def test_classes_that_leave_doubt_are_refused(
    walls: Path, deck: Path, positive: list[str], complaint: str
) -> None:
    with pytest.raises((DatasetError, UsageError), match=complaint):
        find_datasets({"walls": walls, "deck": deck}, positive)


def test_class_of_one_set_alone_has_to_be_there(walls: Path) -> None:
    with pytest.raises(DatasetError, match="no class folder 'riss'"):
        find_datasets({"walls": walls}, ["riss"])
    assert find_datasets({"walls": walls}, ["riss"], all_used=False)["walls"].positive == "cracked"


def test_images_are_named_by_their_set_whatever_the_order(walls: Path, deck: Path, tmp_path: Path) -> None:
    named = find_datasets({"walls": walls, "deck": deck}, ["riss"])

    images, turned = combine(named), combine(dict(reversed(named.items())))

    assert images.names == turned.names
    assert images.names[0] == "deck/p/0.jpg"
    assert images.files[0] == "elsewhere/p/0.jpg"
    assert images.root == Path(os.path.realpath(tmp_path))
    assert images.names[-1] == "walls/intact/059.jpg"
    assert (images.root / images.files[-1]).is_file()
    assert images.groups is not None
    assert images.groups[0] == "deck: span 0"
    assert images.ungrouped.sum() == 100


def test_one_set_stays_what_it_is(deck: Path) -> None:
    alone = find_images(deck, "riss")

    images = combine({"deck": alone})

    assert (images.root, images.files, images.groups) == (alone.root, alone.files, alone.groups)
    assert images.names == alone.files


def test_folder_given_twice_is_refused(walls: Path) -> None:
    with pytest.raises(DatasetError, match=r"cracked/000\.jpg is in two data sets"):
        combine(find_datasets({"walls": walls, "again": walls}))


def _hashes(images: LabelledImages) -> list[str]:
    return [f"{row:064x}" for row in range(len(images.files))]


def test_random_split_is_alike_in_classes_of_every_set(tmp_path: Path) -> None:
    one, two = _folder(tmp_path, "a", crack=100, clear=300), _folder(tmp_path, "b", crack=200, clear=50)
    images = combine(find_datasets({"a": one, "b": two}))
    hashes = _hashes(images)

    split = divide_images(SplitRule(), images, hashes, np.eye(650, dtype=np.float32)).split

    for rows, share in ((split.train, 0.7), (split.validation, 0.24), (split.test, 0.06)):
        counts = np.bincount(images.strata[rows], minlength=4)
        np.testing.assert_allclose(counts, share * np.array([300, 100, 50, 200]), atol=1)


def test_small_set_beside_a_large_one_does_not_stop_the_split(tmp_path: Path) -> None:
    large, small = _folder(tmp_path, "a", crack=100, clear=100), _folder(tmp_path, "b", crack=1, clear=2)
    images = combine(find_datasets({"a": large, "b": small}))
    hashes = _hashes(images)

    split = divide_images(SplitRule(), images, hashes, np.eye(203, dtype=np.float32)).split

    assert sorted([*split.train, *split.validation, *split.test]) == list(range(203))


def test_grouped_split_takes_groups_where_there_are_some_and_looks_elsewhere(walls: Path, deck: Path) -> None:
    images = combine(find_datasets({"walls": walls, "deck": deck}, ["riss"]))
    hashes = _hashes(images)
    features = np.eye(180, dtype=np.float32)
    features[[100, 101, 102]] = features[0]  # three walls look like a deck: groups are known there

    found = divide_images(SplitRule("grouped"), images, hashes, features)

    assert found.group_count == 20 + 98
    parts = np.array(found.parts())
    assert len(set(parts[[100, 101, 102]])) == 1
    assert found.groups is not None
    assert len({(group, part) for group, part in zip(found.groups, parts, strict=True)}) == 118
    for rows, share in ((parts == "train", 0.7), (parts == "validation", 0.24)):
        counts = np.bincount(images.strata[rows], minlength=4)
        np.testing.assert_allclose(counts, share * np.array([40, 40, 60, 40]), atol=4)


def test_same_bytes_under_two_labels_in_two_sets_are_refused_by_name(walls: Path, tmp_path: Path) -> None:
    other = _folder(tmp_path, "more", crack=30, clear=30)
    images = combine(find_datasets({"walls": walls, "more": other}))
    hashes = _hashes(images)
    hashes[images.names.index("walls/cracked/003.jpg")] = hashes[images.names.index("more/clear/005.jpg")]

    with pytest.raises(DatasetError, match=r"more/clear/005\.jpg = walls/cracked/003\.jpg"):
        divide_images(SplitRule(), images, hashes, np.eye(160, dtype=np.float32))


def test_class_without_a_picture_is_named_with_a_reason(walls: Path, tmp_path: Path) -> None:
    other = _folder(tmp_path, "more", crack=3, clear=3)
    images = combine(find_datasets({"walls": walls, "more": other}))
    chunk = read_tiles(images.root, images.files)
    assert len(chunk.bad) == 106
    usable = np.flatnonzero(images.strata != 1)
    bad = [each for each, stratum in zip(chunk.bad, images.strata, strict=True) if stratum == 1]

    with pytest.raises(DatasetError, match=r"None of the 3 files of the class crack of more .*empty"):
        summarise_dataset(images, usable, ["0"] * len(usable), bad)


def test_stock_names_files_by_their_set_and_fingerprints_each_set_alone(walls: Path, tmp_path: Path) -> None:
    other = _folder(tmp_path, "more", crack=3, clear=3)
    images = combine(find_datasets({"walls": walls, "more": other}))
    kept = np.arange(1, 106)
    hashes = [f"{row}" for row in kept]

    dataset = summarise_dataset(images, kept, hashes, [BadFile(images.files[0], "broken")])

    assert dataset.usable == 105
    assert dataset.bad == (BadFile("more/clear/000.jpg", "broken"),)
    alone = find_images(walls)
    assert dataset.fingerprints["walls"] == fingerprint(alone.files, hashes[5:], alone.labels)


@pytest.mark.integration
def test_two_sets_are_trained_on_together_and_measured_apart(
    drawn_dataset: Path, weights: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    from crackmodel.models.card.markdown import card_to_markdown
    from crackmodel.models.training.train import train_model

    tiles = shutil.copytree(drawn_dataset, tmp_path / "far" / "tiles")
    (tiles / "cracked").rename(tiles / "riss")
    for path in tiles.rglob("*.png"):
        with path.open("ab") as file:
            file.write(b"another file")
    (tiles / "riss" / "broken.png").write_bytes(b"no picture")
    # What means cracks was said of data sets that are trained on, and holds for a test set too.
    for ours, theirs in (("cracked", "riss"), ("plain", "glatt")):
        (tmp_path / "more" / theirs).mkdir(parents=True)
        for number in range(4):
            shutil.copy(drawn_dataset / ours / f"{number:02}.png", tmp_path / "more" / theirs)

    version = train_model(
        [drawn_dataset, tiles],
        positive=["riss", "slabs=cracked"],
        epochs=2,
        weights=weights,
        models=tmp_path / "models",
        workers=0,
        int8=False,
        test_sets={"more": tmp_path / "more"},
    )

    assert version.reference == "slabs-tiles@v1"
    card = version.card
    assert card.training.command.startswith('train_model(["slabs", "tiles"], ')
    assert [(each.name, each.positive, each.unusable) for each in card.data.sets] == [
        ("slabs", "cracked", 0),
        ("tiles", "riss", 1),
    ]
    for each in card.data.sets:
        assert abs(each.train.images - 56) + abs(each.validation.images - 19) <= 2
        assert card.metrics[f"test:{each.name}"].images == each.test.images
    assert sum(each.test.images for each in card.data.sets) == card.data.test.images
    assert card.data.sets[0].fingerprint != card.data.sets[1].fingerprint
    assert list(card.metrics) == ["validation", "test", "test:slabs", "test:tiles", "more"]
    assert (card.metrics["more"].images, card.metrics["more"].cracks) == (8, 4)
    page = (version.path / "evaluation" / "index.html").read_text()
    assert "test:tiles" in page
    tiles_row = card.data.sets[1]
    assert (
        f"| tiles | {tiles_row.train.images} | {tiles_row.validation.images} "
        f"| {tiles_row.test.images} | 1 |" in card_to_markdown(card)
    )
    rows = pq.read_table(version.path / "split.parquet").to_pylist()
    assert {row["label"] for row in rows} == {"cracked", "riss", "plain"}
    assert (version.path / "bad_files.csv").read_text().startswith("image,reason\ntiles/riss/broken.png,")
    assert str(tmp_path) not in json.dumps([*map(str, rows), (version.path / "card.json").read_text()])


@pytest.mark.integration
@pytest.mark.parametrize("name", ["test", "test:walls", "validation"])
def test_test_set_cannot_take_the_name_of_a_part(
    drawn_dataset: Path, weights: Path, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("tensorflow")
    from crackmodel.models.training.train import train_model

    with pytest.raises(UsageError, match="part of the training's own data"):
        train_model(
            drawn_dataset, weights=weights, models=tmp_path, workers=0, test_sets={name: drawn_dataset}
        )
