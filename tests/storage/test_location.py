from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from pyarrow import fs

from crackmodel.errors import UsageError
from crackmodel.reports.table import ReportTable
from crackmodel.storage.advice import first_line
from crackmodel.storage.location import Location, open_place, write_failed
from crackmodel.storage.object_stores import Store


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_place("report").uri == str(tmp_path / "report")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_place("~/report").local == tmp_path / "report"


def test_file_uri_is_a_local_path(tmp_path: Path) -> None:
    place = open_place((tmp_path / "re port").as_uri())
    assert place.uri == str(tmp_path / "re port")
    assert place.local == tmp_path / "re port"


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


def test_object_store_uri_stays_and_is_not_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = open_place("s3://bucket/night/report/?region=eu-central-1")
    assert place.local is None
    assert place.inside("survey=a") == "bucket/night/report/survey=a"


@pytest.mark.parametrize("uri", ["ftp://host/report", "nonsense://x", "s3://"])
def test_unknown_address_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError, match="s3://"):
        open_place(uri)


@pytest.mark.parametrize(
    ("error", "problem", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full", "Free some space"),
        (
            OSError("[Errno 28] Error writing. Detail: [errno 28] No space left on device"),
            "disk is full",
            "run again",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk is full", "Free some space"),
        (OSError(errno.EFBIG, "File too large"), "largest file", "ulimit -f"),
        (PermissionError(errno.EACCES, "Permission denied"), "no permission", "write access"),
        (OSError(errno.EROFS, "Read-only file system"), "no permission", "write access"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", "Check the storage"),
    ],
)
def test_each_storage_fault_has_its_own_remedy(error: OSError, problem: str, remedy: str) -> None:
    failed = write_failed(error, "/mnt/report")
    assert problem in failed.problem
    assert "/mnt/report" in failed.problem
    assert remedy in failed.remedy


def test_only_the_first_line_of_a_message_is_shown() -> None:
    assert first_line(OSError("Json error.\n   0: <unknown>\n   1: <unknown>")) == "Json error"
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize("name", ["100% r\xe4port #1?", "it's", "50%", "a+b [c]{d}", "a:b", "%2", "%zz"])
def test_a_report_may_have_any_name_that_delta_lake_can_read(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        ReportTable.open_or_create(tmp_path / name)
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a%20b", "feature%2Fwalls/report", "a%25b", "a\\b", "a\nb"])
def test_a_name_that_delta_lake_takes_for_another_is_refused_and_nothing_made(
    name: str, tmp_path: Path
) -> None:
    for address in (tmp_path / name, (tmp_path / name).as_uri()):
        with pytest.raises(UsageError, match="Delta Lake misreads"):
            ReportTable.open_or_create(address)
    assert not list(tmp_path.iterdir())


def test_a_link_to_such_a_name_is_refused_as_well(tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "report").symlink_to("a%20b")
    with pytest.raises(UsageError, match="misreads '%20'"):
        ReportTable.open_or_create(tmp_path / "report")


def test_a_percent_sign_of_a_uri_is_no_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert open_place("s3://bucket/night%20report").root == "bucket/night report"
    with pytest.raises(UsageError, match="Delta Lake misreads '%20'"):
        open_place("s3://bucket/night%2520report")
