"""Features that were extracted once are not extracted again."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from crackmodel.errors import ModelError
from crackmodel.models.datasets.labelled import find_images, read_tiles
from crackmodel.models.registry.registry import PRETRAINED
from crackmodel.models.training import features
from crackmodel.models.training.feature_cache import FeatureCache
from crackmodel.models.training.features import Features, extract_features, tile_features
from crackmodel.models.training.training_events import FeaturesExtracted


@pytest.fixture(scope="module")
def backbone() -> bytes:
    """The model that ships: any LiteRT model does, and its two outputs suffice."""
    return (PRETRAINED / "model.tflite").read_bytes()


@pytest.fixture
def slabs(drawn_dataset: Path, tmp_path: Path) -> Path:
    """Twenty-four pictures and a broken file, to do with as one likes."""
    for folder in ("cracked", "plain"):
        (tmp_path / "slabs" / folder).mkdir(parents=True)
        for number in range(12):
            shutil.copy(drawn_dataset / folder / f"{number:02}.png", tmp_path / "slabs" / folder)
    (tmp_path / "slabs" / "cracked" / "05-broken.png").write_bytes(b"no picture")
    return tmp_path / "slabs"


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were really turned into features, ten a chunk."""
    files: list[str] = []
    real = features.chunk_features

    def chunk_features(root: Path, chunk: list[str], backbone: bytes) -> Features:
        files.extend(chunk)
        return real(root, chunk, backbone)

    monkeypatch.setattr(features, "chunk_features", chunk_features)
    monkeypatch.setattr(features, "CHUNK", 10)
    return files


def _extract(slabs: Path, backbone: bytes) -> Features:
    return extract_features(find_images(slabs), backbone, cache=slabs.parent / "kept", workers=0)


def _same(one: Features, other: Features) -> None:
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.kept, other.kept)
    assert (one.sha256, one.bad) == (other.sha256, other.bad)


def test_second_extraction_reads_and_extracts_nothing(
    slabs: Path, backbone: bytes, extracted: list[str]
) -> None:
    told: list[FeaturesExtracted] = []
    plain = extract_features(find_images(slabs), backbone, workers=0)
    first = _extract(slabs, backbone)
    assert len(extracted) == 50
    extracted.clear()

    second = extract_features(
        find_images(slabs), backbone, cache=slabs.parent / "kept", workers=0, on_event=told.append
    )

    assert extracted == ["cracked/05-broken.png"]
    assert told == [FeaturesExtracted(24, 25), FeaturesExtracted(25, 25)]
    assert first.values.std() > 0.1
    assert [fault.file for fault in first.bad] == ["cracked/05-broken.png"]
    _same(first, plain)
    _same(second, plain)


def test_where_everything_is_known_nobody_is_started(
    slabs: Path, backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK", 10)
    first = _extract(slabs, backbone)
    monkeypatch.setattr(features, "_run_on_ray", None)
    monkeypatch.setattr(features, "_run_in_threads", None)

    _same(extract_features(find_images(slabs), backbone, cache=slabs.parent / "kept"), first)


def test_renamed_and_moved_files_are_known(slabs: Path, backbone: bytes, extracted: list[str]) -> None:
    before = _extract(slabs, backbone)
    extracted.clear()
    (slabs / "cracked" / "00.png").rename(slabs / "cracked" / "zz.png")
    moved = slabs.rename(slabs.parent / "moved")

    after = _extract(moved, backbone)

    assert extracted == ["cracked/05-broken.png"]
    found = dict(zip(after.sha256, after.values, strict=True))
    for digest, values in zip(before.sha256, before.values, strict=True):
        np.testing.assert_array_equal(found[digest], values)
    assert after.sha256[after.kept.tolist().index(12)] == before.sha256[0]


def test_changed_file_and_changed_backbone_are_not_known(
    slabs: Path, backbone: bytes, extracted: list[str]
) -> None:
    _extract(slabs, backbone)
    extracted.clear()
    shutil.copy(slabs / "plain" / "01.png", slabs / "plain" / "00.png")
    (slabs / "plain" / "01.png").write_bytes((slabs / "plain" / "01.png").read_bytes() + b"\0")

    _extract(slabs, backbone)
    assert extracted == ["cracked/05-broken.png", "plain/01.png"]

    extracted.clear()
    _extract(slabs, backbone + b"\0")
    assert len(extracted) == 25


def test_interrupted_extraction_goes_on_where_it_was(
    slabs: Path, backbone: bytes, extracted: list[str]
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(event: FeaturesExtracted) -> None:
        if event.done == 20:
            raise Interrupted

    kept = slabs.parent / "kept"
    with pytest.raises(Interrupted):
        extract_features(find_images(slabs), backbone, cache=kept, workers=0, on_event=interrupt)
    assert len(extracted) == 20
    extracted.clear()

    resumed = _extract(slabs, backbone)

    assert len(extracted) == 6  # five, and the broken one again
    _same(resumed, extract_features(find_images(slabs), backbone, workers=0))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_damaged_chunk_is_extracted_again(
    slabs: Path, backbone: bytes, extracted: list[str], damage: str
) -> None:
    before = _extract(slabs, backbone)
    chunk = min((slabs.parent / "kept").rglob("*.parquet"))
    rows = pq.read_metadata(chunk).num_rows
    content = bytearray(chunk.read_bytes())
    if damage == "flipped":
        # A float that stays a float: nothing but the checksum sees it.
        stored = pq.read_table(chunk)["features"].combine_chunks().flatten().to_numpy()
        place = content.index(stored.tobytes())
        content[place + 2] ^= 0xFF
    chunk.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "emptied": b""}[damage])
    extracted.clear()

    _same(_extract(slabs, backbone), before)
    assert len(extracted) == rows + 1
    extracted.clear()
    _same(_extract(slabs, backbone), before)
    assert extracted == ["cracked/05-broken.png"]
    assert not list((slabs.parent / "kept").rglob(".*"))


def test_tiles_share_the_features_of_files(
    slabs: Path, backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK", 10)
    chunk = read_tiles(slabs, find_images(slabs).files)
    kept = slabs.parent / "kept"

    fresh = tile_features(chunk.tiles, chunk.sha256, backbone, cache=kept)
    monkeypatch.setattr(features, "_backbone", None)

    again = tile_features(chunk.tiles, chunk.sha256, backbone, cache=kept)
    np.testing.assert_array_equal(again, fresh)
    assert len(FeatureCache(kept, backbone).load()) == 24
    found = {place: row for row, place in enumerate(chunk.kept)}
    assert sorted(found) == [place for place in range(25) if place != 5]


def test_folder_that_cannot_be_written_is_named(slabs: Path, backbone: bytes) -> None:
    (slabs.parent / "kept").write_text("a file")

    with pytest.raises(ModelError, match=r"kept.*--features"):
        _extract(slabs, backbone)


def test_other_software_extracts_again(
    slabs: Path, backbone: bytes, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _extract(slabs, backbone)
    before = len(extracted)

    monkeypatch.setattr("crackmodel.models.training.feature_cache.metadata.version", lambda package: "0")
    _extract(slabs, backbone)

    assert len(extracted) == 2 * before


def test_chunk_that_cannot_be_read_now_is_kept(
    slabs: Path, backbone: bytes, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the share went away")

    _extract(slabs, backbone)
    chunks = sorted((slabs.parent / "kept").rglob("*.parquet"))
    with monkeypatch.context() as share:
        share.setattr(pq, "read_table", fail)
        assert FeatureCache(slabs.parent / "kept", backbone).load() == {}

    assert sorted((slabs.parent / "kept").rglob("*.parquet")) == chunks != []
