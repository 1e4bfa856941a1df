from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pyarrow import fs

from crackmodel.errors import UsageError
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store


def test_every_way_to_write_a_local_path_is_one_location(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    deck = tmp_path / "deck 1"
    ways = [
        "~/deck 1",
        "deck 1/./east/..",
        f"{deck}/",
        deck,
        deck.as_uri(),
        f"file://localhost{tmp_path}/deck%201",
    ]
    assert {Location.parse(way) for way in ways} == {Location(str(deck), deck)}
    assert Location.parse(ways[0]).name == "deck 1"


@pytest.mark.parametrize("uri", ["file://", "file://host/deck", "file:///deck?a=b", "file:///deck#7"])
def test_a_file_uri_that_could_mean_another_file_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="file:///FOLDER"):
        Location.parse(uri)


def test_parsing_asks_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs, "resolve_s3_region", None)
    location = Location.parse("s3://inspections/2024/bridge%2D07//?scheme=http")
    assert location.uri == "s3://inspections/2024/bridge%2D07?scheme=http"
    assert (location.path, location.name, location.local) == ("inspections/2024/bridge-07", "bridge-07", None)
    assert (location / "a").uri == "s3://inspections/2024/bridge%2D07/a?scheme=http"
    assert Location.parse("gs://anonymous@inspections").name == "inspections"


def test_what_lies_below_is_named_in_the_way_of_its_storage(tmp_path: Path) -> None:
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    for root in (
        Location.parse(tmp_path),
        Location("s3://b?region=x", store=Store(bucket, "", "s3://b")),
    ):
        (root / "50% wet?").filesystem.create_dir((root / "50% wet?").root)
        with (root / "50% wet?" / "a").filesystem.open_output_stream((root / "50% wet?/a").root) as stream:
            stream.write(b"content")
        assert [each.name for each in root.iterdir()] == ["50% wet?"]
        assert [each.read_bytes() for each in (root / "50% wet?").iterdir()] == [b"content"]
        assert root.exists("50% wet?/a")
        assert (root / "50% wet?").is_dir()
        assert not (root / "50%").exists()
        assert list((root / "50%").iterdir()) == []
        with pytest.raises(FileNotFoundError):
            (root / "50%").read_bytes()
    assert (root / "50% wet?").uri == "s3://b/50%25 wet%3F?region=x"


def test_a_location_is_sent_without_what_this_process_has_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    location = Location.parse("s3://inspections/deck")
    assert location.root == "inspections/deck"
    sent = pickle.loads(pickle.dumps(location))
    assert sent == location
    assert vars(sent) == {"uri": location.uri, "local": None, "store": None}


@pytest.mark.parametrize("uri", ["ftp://host/report", "nonsense://x", "s3://"])
def test_unknown_address_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError, match="s3://"):
        Location.parse(uri)


def test_parents_behind_a_link_are_those_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "disk" / "photos").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "photos").symlink_to(tmp_path / "disk" / "photos")

    beside = Location.parse(tmp_path / "work" / "photos" / ".." / "report")
    assert beside.local == tmp_path.resolve() / "disk" / "report"
    assert Location.parse(tmp_path / "work" / "photos").name == "photos"  # a link keeps its own name


def test_what_is_no_uri_is_refused_without_repeating_a_secret() -> None:
    with pytest.raises(UsageError, match="not a valid URI"):
        Location.parse("s3://[b/photos")
    with pytest.raises(UsageError) as caught:
        Location.parse("file://user:secret@host/photos")
    assert "secret" not in str(caught.value)


def test_azure_knows_a_path_without_its_account() -> None:
    assert Location.parse("abfss://photos@account.dfs.core.windows.net/deck").path == "photos/deck"
