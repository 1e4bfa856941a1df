from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from crackmodel.errors import DatasetError, UsageError
from crackmodel.models.datasets.duplicates import near_duplicate_links, refuse_two_labels, share_with_twin
from crackmodel.models.datasets.labelled import split_70_24_6
from crackmodel.models.datasets.splits import Division, SplitRule, divide, write_split

FILES = [f"{'crack' if row % 2 else 'clear'}/bridge{row // 10:02}_{row % 10}.jpg" for row in range(600)]
LABELS = np.arange(600, dtype=np.int8) % 2
HASHES = [f"{row:064x}" for row in range(600)]


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """600 images that look nothing alike, but for ten pairs."""
    made = np.random.default_rng(2).normal(size=(600, 64)).astype(np.float32)
    made[1:20:2] = made[100:200:10] * 3 + 0.01
    return made


def _of(division: Division) -> np.ndarray:
    return np.array(division.parts())


@pytest.mark.parametrize("seed", [0, 5])
def test_random_split_is_the_reference_to_the_row(features: np.ndarray, seed: int) -> None:
    found = divide(SplitRule(seed=seed), FILES, HASHES, LABELS, features)

    expected = split_70_24_6(LABELS, seed)
    np.testing.assert_array_equal(found.split.train, expected.train)
    np.testing.assert_array_equal(found.split.validation, expected.validation)
    np.testing.assert_array_equal(found.split.test, expected.test)
    assert found.groups is None


@pytest.mark.parametrize("rule", [SplitRule(), SplitRule("grouped")], ids=lambda rule: rule.kind)
def test_same_bytes_are_never_in_two_parts(features: np.ndarray, rule: SplitRule) -> None:
    hashes = [f"{row // 4 * 2 + row % 2:064x}" for row in range(600)]  # pairs of one class

    parts = _of(divide(rule, FILES, hashes, LABELS, features))

    assert len(set(zip(hashes, parts, strict=True))) == 300
    assert (parts == "train").mean() == pytest.approx(0.7, abs=0.02)


def test_groups_stay_whole_and_shares_and_classes_are_kept(features: np.ndarray) -> None:
    found = divide(SplitRule("grouped", r"/(bridge\d+)_"), FILES, HASHES, LABELS, features)

    parts = _of(found)
    assert found.group_count == 60
    assert len(set(zip(found.groups or (), parts, strict=True))) == 60
    for part, share in (("train", 0.70), ("validation", 0.24), ("test", 0.06)):
        assert abs((parts == part).mean() - share) <= 0.02
        assert LABELS[parts == part].mean() == pytest.approx(0.5)
    assert "bridge" in found.described


def test_grouped_split_follows_its_seed(features: np.ndarray) -> None:
    one, same, other = (
        _of(divide(SplitRule("grouped", r"/(bridge\d+)_", seed), FILES, HASHES, LABELS, features))
        for seed in (1, 1, 2)
    )

    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_groups_that_share_a_file_are_one(features: np.ndarray) -> None:
    hashes = [*HASHES]
    hashes[15] = hashes[25]

    found = divide(SplitRule("grouped", r"/(bridge\d+)_"), FILES, hashes, LABELS, features)

    assert found.group_count == 59
    assert found.groups is not None
    assert set(found.groups[10:30]) == {"bridge01"}


def test_data_sets_own_groups_are_used_before_looks(features: np.ndarray) -> None:
    found = divide(SplitRule("grouped"), FILES, HASHES, LABELS, features, [str(r % 100) for r in range(600)])

    assert found.group_count == 100
    assert "data set's groups" in found.described


def test_near_duplicates_stay_together_where_no_group_is_known(features: np.ndarray) -> None:
    found = divide(SplitRule("grouped"), FILES, HASHES, LABELS, features)

    assert found.group_count == 590
    parts = _of(found)
    assert (parts[1:20:2] == parts[100:200:10]).all()
    assert found.near_duplicates == 0


def test_near_duplicates_across_a_random_split_are_counted(features: np.ndarray) -> None:
    found = divide(SplitRule(), FILES, HASHES, LABELS, features)
    parts = _of(found)
    torn = (parts[1:20:2] == "test") & (parts[100:200:10] == "train")
    torn_back = (parts[100:200:10] == "test") & (parts[1:20:2] == "train")

    assert found.near_duplicates == pytest.approx((torn.sum() + torn_back.sum()) / (parts == "test").sum())
    assert share_with_twin(features, np.arange(1, 20, 2), np.arange(100, 200)) == 1
    assert len(near_duplicate_links(features)) == 10


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (SplitRule("alphabetic"), "no split 'alphabetic'"),  # type: ignore[arg-type]
        (SplitRule("random", "(.)"), "random split has no groups"),
        (SplitRule("grouped", "("), "no regular expression"),
        (SplitRule("grouped", "bridge"), "no capture group"),
    ],
)
def test_senseless_rules_are_refused(rule: SplitRule, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        rule.check()


def test_image_without_a_group_is_named(features: np.ndarray) -> None:
    with pytest.raises(DatasetError, match=r"no group for 10 of 600 images, for example clear/bridge07_0"):
        divide(SplitRule("grouped", r"/(bridge(?!07)\d+)"), FILES, HASHES, LABELS, features)


def test_few_large_groups_still_fill_every_part(features: np.ndarray) -> None:
    found = divide(SplitRule("grouped", r"/bridge(\d)"), FILES, HASHES, LABELS, features)

    assert found.group_count == 6
    parts = _of(found).tolist()
    assert [parts.count(part) for part in ("train", "validation", "test")] == [300, 200, 100]


@pytest.mark.parametrize("pattern", [r"/(bridge)", r"^(\w+)/"])
def test_too_few_groups_are_refused(features: np.ndarray, pattern: str) -> None:
    with pytest.raises(DatasetError, match="cannot be split 70:24:6 with both classes"):
        divide(SplitRule("grouped", pattern), FILES, HASHES, LABELS, features)


def test_picture_with_two_labels_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"2 pictures .*: a = b = c; d = e\."):
        refuse_two_labels(list("abcdef"), list("xxxyyz"), np.array([0, 1, 1, 0, 1, 0]))
    refuse_two_labels(list("ab"), list("xx"), np.array([1, 1]))


def test_many_pictures_with_two_labels_are_counted() -> None:
    with pytest.raises(DatasetError, match=r"12 pictures .*; and 2 more"):
        refuse_two_labels([str(row) for row in range(24)], [str(row // 2) for row in range(24)], LABELS[:24])


def test_split_is_written_as_a_table(features: np.ndarray, tmp_path: Path) -> None:
    found = divide(SplitRule("grouped", r"/(bridge\d+)_"), FILES, HASHES, LABELS, features)
    plain = divide(SplitRule(), FILES, HASHES, LABELS, features)
    names = ["crack" if label else "clear" for label in LABELS]

    table = pq.read_table(write_split(tmp_path / "split.parquet", found, FILES, HASHES, names))

    assert table.column_names == ["image", "sha256", "label", "group", "part"]
    row = {"image": FILES[13], "sha256": HASHES[13], "label": "crack", "group": "bridge01"}
    assert table.slice(13, 1).to_pylist() == [row | {"part": found.parts()[13]}]
    assert write_split(tmp_path / "a.parquet", plain, FILES, HASHES, names).read_bytes()
    assert pq.read_table(tmp_path / "a.parquet")["group"].null_count == 600


def test_images_that_all_look_alike_are_one_cluster_without_all_their_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crackmodel.models.datasets.duplicates._BLOCK", 7)
    film = (
        np.ones((50, 8), np.float32) + np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) / 50
    )
    apart = np.eye(8, dtype=np.float32)[:3]

    links = near_duplicate_links(np.concatenate([film, apart, film]))

    assert links.tolist() == [[0, row] for row in (*range(1, 50), *range(53, 103))]


def test_chain_of_near_duplicates_hangs_together_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crackmodel.models.datasets.duplicates._BLOCK", 3)
    angles = np.deg2rad(15.0 * np.array([4, 0, 2, 1, 3, 5, 12]))  # neighbours have a cosine of 0.966
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    assert near_duplicate_links(circle).tolist() == [[0, row] for row in range(1, 6)]
