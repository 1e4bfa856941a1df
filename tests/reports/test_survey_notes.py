from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.errors import ReportIncompatible, ReportWriteFailed, UsageError
from crackmodel.reports.table import ReportTable
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store
from tests.reports.conftest import Commit
from tests.reports.rows import make_row


def notes(table: ReportTable) -> list[str]:
    return sorted(path.name for path in Path(table.uri, "_surveys").glob("*.json"))


def test_a_survey_is_claimed_once_and_for_all(table: ReportTable) -> None:
    for _ in range(2):
        table.claim("photos", "/a/photos")
        ReportTable.open(table.uri).claim("photos", "/a/photos/")
    table.claim("tunnel", "/b/photos")
    assert notes(table) == ["photos.json", "tunnel.json"]
    note = json.loads(Path(table.uri, "_surveys", "photos.json").read_text())
    assert note == {"survey": "photos", "uri": "/a/photos"}


def test_another_folder_of_the_same_name_is_another_survey(table: ReportTable) -> None:
    table.claim("photos", "/a/photos")
    with pytest.raises(ReportIncompatible) as caught:
        table.claim("photos", "/b/photos\x1b[2J")
    assert caught.value.problem == (
        f"The report {table.uri} holds survey 'photos' from /a/photos, not /b/photos\\x1b[2J."
    )
    note = Path(table.uri, "_surveys", "photos.json")
    assert "--name" in caught.value.remedy
    assert caught.value.remedy.endswith(f"delete {note}.")
    note.unlink()
    table.claim("photos", "/b/photos")
    with pytest.raises(ReportIncompatible):
        table.claim("photos", "/a/photos")


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("s3://inspections/2024/deck", "s3://inspections/2024/deck/"),
        ("s3://inspections/deck", "s3://KEY:secret@inspections/deck?region=eu-west-1"),
        ("s3://KEY:secret@inspections/deck?endpoint_override=localhost:9000", "s3://inspections/deck"),
        ("gs://anonymous@inspections", "gs://inspections/"),
        ("s3://inspections/deck%20of%20t%C3%BCbingen", "s3://inspections/deck of t\xfcbingen"),
        ("s3://inspections/50 %25", "s3://inspections/50%20%25"),
        ("/", "/"),
    ],
)
def test_a_place_is_the_same_by_whatever_key_it_is_reached(table: ReportTable, one: str, same: str) -> None:
    table.claim("deck", one)
    table.claim("deck", same)
    with pytest.raises(ReportIncompatible):
        table.claim("deck", "s3://inspections/deck-2")


@pytest.mark.parametrize(
    ("one", "another"),
    [("/photos/a%20b", "/photos/a b"), ("s3://inspections/a%2520b", "s3://inspections/a%20b")],
)
def test_a_percent_sign_in_a_folder_s_own_name_counts(table: ReportTable, one: str, another: str) -> None:
    table.claim("deck", one)
    with pytest.raises(ReportIncompatible):
        table.claim("deck", another)


def test_no_key_is_written_down(table: ReportTable) -> None:
    table.claim("deck", "s3://KEY:sesame@inspections/deck?region=eu-west-1")
    assert "sesame" not in Path(table.uri, "_surveys", "deck.json").read_text()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"uri": 7}', b"\xff"])
def test_a_damaged_note_binds_nobody(table: ReportTable, damaged: bytes) -> None:
    table.claim("photos", "/a/photos")
    Path(table.uri, "_surveys", "photos.json").write_bytes(damaged)
    table.claim("photos", "/b/photos")
    with pytest.raises(ReportIncompatible):
        table.claim("photos", "/a/photos")


def test_notes_are_invisible_to_readers_and_safe_from_vacuum(table: ReportTable, commit: Commit) -> None:
    table.claim("bridge", "/a/bridge")
    commit([make_row("a.jpg")])
    assert len(pd.read_parquet(table.uri)) == 1
    DeltaTable(table.uri).vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
    )
    assert notes(table) == ["bridge.json"]


def test_an_object_store_keeps_notes_too(table: ReportTable, tmp_path: Path) -> None:
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    (tmp_path / "report" / "_surveys").mkdir()  # a bucket needs no folders
    store = ReportTable(
        Location("s3://bucket/report", store=Store(bucket, "report", "s3://bucket/report")),
        DeltaTable(table.uri),
    )
    store.claim("photos", "s3://a/photos")
    with pytest.raises(ReportIncompatible, match=r"delete report/_surveys/photos\.json"):
        store.claim("photos", "s3://b/photos")
    assert notes(table) == ["photos.json"]


def test_a_name_that_leads_elsewhere_is_refused(table: ReportTable) -> None:
    with pytest.raises(UsageError):
        table.claim("../photos", "/a/photos")


def test_a_note_that_cannot_be_written_is_a_write_failure(table: ReportTable) -> None:
    Path(table.uri, "_surveys").write_text("in the way")
    with pytest.raises(ReportWriteFailed):
        table.claim("photos", "/a/photos")
