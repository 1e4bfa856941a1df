from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from crackmodel.errors import DatasetError
from crackmodel.models.datasets.labelled import find_images, fingerprint, read_tiles, split_70_24_6
from crackmodel.models.preprocessing import prepare_tile


@pytest.fixture
def dataset(drawn_dataset: Path, tmp_path: Path) -> Path:
    """The drawn data set, to be changed at will."""
    return shutil.copytree(drawn_dataset, tmp_path / "slabs")


def test_files_are_listed_in_order_with_their_class(dataset: Path) -> None:
    images = find_images(dataset)

    assert (images.positive, images.negative) == ("cracked", "plain")
    assert list(images.files) == sorted(images.files)
    assert images.labels.sum() == 40
    assert all(
        (label == 1) == file.startswith("cracked/")
        for file, label in zip(images.files, images.labels, strict=True)
    )


@pytest.mark.parametrize("name", ["Positive", "cracked", "CRACK", "Cracks", "with crack", "with-cracks"])
def test_usual_names_of_the_class_are_recognised(dataset: Path, name: str) -> None:
    (dataset / "cracked").rename(dataset / name)

    assert find_images(dataset).positive == name


def test_other_names_have_to_be_told(dataset: Path) -> None:
    (dataset / "cracked").rename(dataset / "fissures")

    with pytest.raises(DatasetError, match=r"fissures or plain\. Say it with --positive NAME"):
        find_images(dataset)
    assert find_images(dataset, positive="fissures").positive == "fissures"
    assert find_images(dataset, positive="plain").labels.sum() == 40


def test_two_names_for_cracks_are_not_guessed_between(dataset: Path) -> None:
    (dataset / "plain").rename(dataset / "positive")

    with pytest.raises(DatasetError, match="not clear"):
        find_images(dataset)


def test_class_that_is_not_there_is_refused(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no class folder 'Positive'"):
        find_images(dataset, positive="Positive")


def test_a_data_set_may_be_named_by_a_file_uri(dataset: Path) -> None:
    images = find_images(dataset.as_uri())
    assert (images.root, images.files) == (dataset, find_images(dataset).files)


def test_a_data_set_in_an_object_store_is_refused_as_it_was_typed() -> None:
    with pytest.raises(DatasetError, match=r"The data set s3://b/x is in an object store.*Copy it"):
        find_images("s3://b/x")


def test_hidden_files_and_folders_are_no_data(dataset: Path) -> None:
    (dataset / ".cache").mkdir()
    (dataset / "plain" / ".DS_Store").write_bytes(b"x")
    (dataset / "plain" / ".thumbnails").mkdir()
    (dataset / "plain" / ".thumbnails" / "a.png").write_bytes(b"x")
    (dataset / "notes.txt").write_text("x")

    assert len(find_images(dataset).files) == 80


def test_folders_within_a_class_belong_to_it(dataset: Path) -> None:
    (dataset / "cracked" / "pier").mkdir()
    shutil.copy(dataset / "cracked" / "00.png", dataset / "cracked" / "pier" / "a.png")

    images = find_images(dataset)

    assert images.labels[images.files.index("cracked/pier/a.png")] == 1


def test_data_set_that_is_none_is_refused(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(DatasetError, match="not a folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"0 class folders \(none\)"):
        find_images(dataset / "plain")
    (dataset / "third").mkdir()
    with pytest.raises(DatasetError, match=r"3 class folders \(cracked, plain, third\)"):
        find_images(dataset)


def test_empty_class_is_refused(dataset: Path) -> None:
    shutil.rmtree(dataset / "plain")
    (dataset / "plain").mkdir()

    with pytest.raises(DatasetError, match="plain holds no files"):
        find_images(dataset)


def test_tiles_are_prepared_like_a_surveys(dataset: Path) -> None:
    file = "cracked/02.png"
    picture = cv2.cvtColor(cv2.imread(str(dataset / file)), cv2.COLOR_BGR2RGB)

    chunk = read_tiles(dataset, [file])

    assert picture.shape == (227, 227, 3)
    np.testing.assert_array_equal(chunk.tiles[0], prepare_tile(picture))
    assert chunk.sha256 == (hashlib.sha256((dataset / file).read_bytes()).hexdigest(),)


def test_bad_files_are_listed_and_the_others_keep_their_places(dataset: Path) -> None:
    (dataset / "cracked" / "01.png").write_bytes(b"no picture")
    (dataset / "cracked" / "02.png").unlink()
    files = [f"cracked/{number:02}.png" for number in range(4)]
    expected = read_tiles(dataset, [files[3]]).tiles[0]

    chunk = read_tiles(dataset, files)

    assert chunk.kept.tolist() == [0, 3]
    assert [bad.file for bad in chunk.bad] == files[1:3]
    assert "not_an_image" in chunk.bad[0].reason
    assert "No such file" in chunk.bad[1].reason
    np.testing.assert_array_equal(chunk.tiles[1], expected)


@pytest.mark.parametrize(("images", "cracks"), [(8000, 4000), (1000, 200), (173, 73)])
def test_split_is_70_24_6_alike_in_classes_and_covers_every_row_once(images: int, cracks: int) -> None:
    labels = np.arange(images) < cracks

    split = split_70_24_6(labels.astype(np.int8), seed=3)

    parts = (split.train, split.validation, split.test)
    assert sorted(np.concatenate(parts)) == list(range(images))
    for part, share in zip(parts, (0.70, 0.24, 0.06), strict=True):
        assert abs(len(part) - share * images) <= 1
        assert abs(labels[part].sum() - share * cracks) <= 1


def test_split_of_8000_is_5600_1920_480() -> None:
    split = split_70_24_6(np.repeat([0, 1], 4000), seed=0)

    assert [len(part) for part in (split.train, split.validation, split.test)] == [5600, 1920, 480]


def test_split_follows_its_seed() -> None:
    labels = np.repeat([0, 1], 100)

    np.testing.assert_array_equal(split_70_24_6(labels, 1).train, split_70_24_6(labels, 1).train)
    assert (split_70_24_6(labels, 1).train != split_70_24_6(labels, 2).train).any()


@pytest.mark.parametrize(("clear", "cracks"), [(0, 0), (50, 0), (50, 1), (50, 3), (4, 4)])
def test_too_few_images_are_refused_with_the_count(clear: int, cracks: int) -> None:
    labels = np.repeat([0, 1], [clear, cracks])

    with pytest.raises(DatasetError, match=f"{clear + cracks} images, {min(clear, cracks)} of the smaller"):
        split_70_24_6(labels, seed=0)


def test_fingerprint_follows_names_bytes_and_labels_but_not_order() -> None:
    one = fingerprint(["a", "b"], ["11", "22"], np.array([0, 1]))

    assert fingerprint(["b", "a"], ["22", "11"], np.array([1, 0])) == one
    others = {
        fingerprint(["a", "c"], ["11", "22"], np.array([0, 1])),
        fingerprint(["a", "b"], ["11", "23"], np.array([0, 1])),
        fingerprint(["a", "b"], ["11", "22"], np.array([1, 1])),
        fingerprint(["a"], ["11"], np.array([0])),
    }
    assert one not in others
    assert len(others) == 4
