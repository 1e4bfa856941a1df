"""Which surveys there are below a root."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from crackmodel.errors import SurveyError, UsageError
from crackmodel.storage.location import Location
from crackmodel.surveys.discovery import RosterEntry, find_surveys
from crackmodel.surveys.listing import Survey, list_survey
from tests.object_store import BUCKET, ObjectStore


def found_in(root: str | Path, apart: tuple[str, ...] = (), **given: Any) -> tuple[RosterEntry, ...]:
    return find_surveys(Location.parse(root), apart=[Location.parse(each) for each in apart], **given)


def test_every_folder_is_a_survey(tmp_path: Path) -> None:
    for name in ("bridge-07", "tunnel", ".trash", "_report"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("no survey")

    assert found_in(tmp_path) == (
        RosterEntry("bridge-07", Location.parse(f"{tmp_path}/bridge-07")),
        RosterEntry("tunnel", Location.parse(f"{tmp_path}/tunnel")),
    )


def test_what_holds_no_photographs_is_no_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bridge-07", "night", "report.old/_delta_log", "models", "store", "lost+found", "@eaDir"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("$RECYCLE.BIN", "System Volume Information"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "night")
    monkeypatch.chdir(tmp_path)

    apart = ("night", f"file://{tmp_path}/models", "./store/", "s3://nowhere/bridge-07")
    assert [entry.name for entry in found_in(".", apart=apart)] == ["bridge-07"]


def test_a_report_in_a_bucket_is_no_survey_of_it(object_store: ObjectStore) -> None:
    for key in ("night/bridge-07/a.jpg", "night/out/a.parquet", "night/old/_delta_log/0.json"):
        object_store.put(key)

    found = found_in(f"s3://{BUCKET}/night", apart=(f"s3://{BUCKET}/night/out/", "bridge-07"))

    assert [entry.name for entry in found] == ["bridge-07"]


def test_an_empty_folder_is_a_survey_once_there_were_images_of_it(tmp_path: Path) -> None:
    for name in ("new", "unplugged", "deep/of/it", "bridge-07/span-1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "deep" / ".DS_Store").touch()

    with pytest.raises(SurveyError, match=r"All folders in .* are empty"):
        found_in(tmp_path, is_known=lambda _: False)
    assert len(found_in(tmp_path)) == 4
    (tmp_path / "bridge-07" / "span-1" / "a.jpg").touch()
    found = found_in(tmp_path, is_known=lambda name: name == "unplugged")
    assert [entry.name for entry in found] == ["bridge-07", "unplugged"]

    (tmp_path / "surveys.toml").write_text("survey = [{ uri = 'new' }]")
    assert [entry.name for entry in found_in(tmp_path, is_known=lambda _: False)] == ["new"]


def test_a_roster_decides_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "not-listed").mkdir()
    (tmp_path / "surveys.toml").write_text(
        """
        [[survey]]
        uri = "bridges/07"
        name = "bridge-07"
        tile = 256
        owner = "North district"

        [[survey]]
        uri = "s3://photos/tunnel"

        [[survey]]
        uri = "/mnt/facades"
        """
    )

    assert found_in(tmp_path) == (
        RosterEntry("bridge-07", Location.parse(f"{tmp_path}/bridges/07"), 256, "North district"),
        RosterEntry("tunnel", Location.parse("s3://photos/tunnel")),
        RosterEntry("facades", Location.parse("/mnt/facades")),
    )


@pytest.fixture
def elsewhere(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a URI says where the store is; nothing else does."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    return f"?endpoint_override={urlsplit(object_store.endpoint).netloc}&scheme=http&region=eu-central-1"


def put(location: str, content: bytes = b"x") -> None:
    storage, path = Survey.parse(location).open()
    with storage.open_output_stream(path) as stream:
        stream.write(content)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_options_of_a_root_hold_for_every_survey_in_it(elsewhere: str, slash: str) -> None:
    night = f"s3://{BUCKET}/night"
    folders = {"bridge-07": "bridge-07", "span 1": "span 1", "50%20wet?": "50%2520wet%3F"}
    for written in folders.values():
        put(f"{night}/{written}/a.jpg{elsewhere}")

    found = found_in(f"{night}{slash}{elsewhere}")

    assert {entry.uri: entry.name for entry in found} == {
        f"{night}/{written}{elsewhere}": Survey.parse(folder).name for folder, written in folders.items()
    }
    for entry in found:
        assert list_survey(entry).files["image"].to_pylist() == ["a.jpg"]


def test_the_options_of_a_root_hold_for_what_its_roster_names_in_it(elsewhere: str) -> None:
    night = f"s3://{BUCKET}/night"
    roster = b"""
        survey = [
            { uri = "bridge-07" }, { uri = ".", name = "all" }, { uri = "sub/." },
            { uri = "other?region=us-west-2" }, { uri = "s3://photos/tunnel" },
        ]
    """
    put(f"{night}/surveys.toml{elsewhere}", roster)

    assert [entry.uri for entry in found_in(f"{night}/{elsewhere}")] == [
        f"{night}/bridge-07{elsewhere}",
        f"{night}{elsewhere}",
        f"{night}/sub{elsewhere}",
        f"{night}/other?region=us-west-2",
        "s3://photos/tunnel",
    ]


def test_a_folder_without_a_name_is_no_survey(object_store: ObjectStore) -> None:
    for key in ("night/bridge-07/a.jpg", "night//b.jpg"):
        object_store.put(key)

    assert [entry.name for entry in found_in(f"s3://{BUCKET}/night")] == ["bridge-07"]


@pytest.mark.parametrize(
    ("roster", "complaint"),
    [
        ("[[survey]\n", "is not TOML"),
        ("uri = 'a'", r"surveys\.toml cannot be used: uri \(Extra"),
        ("[[survey]]\nname = 'a'", r"surveys\.toml cannot be used: uri of survey 1 \(Field required\)"),
        ("[[survey]]\nurl = 'a'", r"uri of survey 1 \(Field required\), url of survey 1 \(Extra"),
        ("[[survey]]\nuri = 'a'\ntile = '256'", r"tile of survey 1 \(Input should be a valid integer"),
        ("[[survey]]\nuri = 'a'\ntile = 5", r"tile of survey 1 \(.*32"),
        ("[[survey]]\nuri = 'x/a'\n[[survey]]\nuri = 'y/a'", "same name: a"),
        ("survey = 3", r"used: survey \(.*valid list"),
        ("survey = [3]", r"used: survey 1 \(.*valid dictionary"),
        ("[[survey]]\nuri = ''", r"uri of survey 1 \(.*at least 1 character"),
    ],
)
def test_a_roster_that_makes_no_sense_is_refused(tmp_path: Path, roster: str, complaint: str) -> None:
    (tmp_path / "surveys.toml").write_text(roster)

    with pytest.raises(UsageError, match=complaint):
        found_in(tmp_path)


def test_a_root_without_surveys_says_so(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="no survey"):
        found_in(tmp_path)
    (tmp_path / "surveys.toml").write_text("")
    with pytest.raises(SurveyError, match="no survey"):
        found_in(tmp_path)
    with pytest.raises(SurveyError, match="cannot be read"):
        found_in(tmp_path / "nowhere")
