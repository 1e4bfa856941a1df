"""Notes about a survey: where its photographs are, and which runs have been announced."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.errors import ReportDamaged, ReportError, ReportIncompatible, ReportWriteFailed, UsageError
from crackmodel.reports import survey_notes
from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.reading.dataset import survey_names
from crackmodel.reports.survey_notes import bind_source, mark_announced, read_announced
from crackmodel.reports.table import ReportTable
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store
from tests.reports.conftest import Commit
from tests.reports.rows import make_row


def bind(table: ReportTable, survey: str, uri: str) -> None:
    bind_source(table.place, survey, uri, has_rows=survey in survey_names(table))


def notes(table: ReportTable) -> list[str]:
    return sorted(path.name for path in Path(table.uri, "_surveys").glob("*.json"))


def told(table: ReportTable, survey: str = "bridge") -> Path:
    return Path(table.uri, "_surveys", f"{survey}.told")


def damaged_notes(table: ReportTable) -> list[str]:
    """Paths of the notes that a check finds to be damaged."""
    findings = check_report(ReportTable.open(table.uri)).findings
    assert {finding.kind for finding in findings} <= {"note"}
    return [finding.path for finding in findings]


# Where the photographs are


def test_a_survey_is_bound_once_and_for_all(table: ReportTable) -> None:
    for _ in range(2):
        bind(table, "photos", "/a/photos")
        bind(ReportTable.open(table.uri), "photos", "/a/photos/")
    bind(table, "tunnel", "/b/photos")
    assert notes(table) == ["photos.json", "tunnel.json"]
    note = json.loads(Path(table.uri, "_surveys", "photos.json").read_text())
    assert note == {"survey": "photos", "uri": "/a/photos"}


def test_another_folder_of_the_same_name_is_another_survey(table: ReportTable) -> None:
    bind(table, "photos", "/a/photos")
    with pytest.raises(ReportIncompatible) as caught:
        bind(table, "photos", "/b/photos\x1b[2J")
    assert caught.value.problem == (
        f"The report {table.uri} holds survey 'photos' from /a/photos, not /b/photos\\x1b[2J."
    )
    note = Path(table.uri, "_surveys", "photos.json")
    assert "--name" in caught.value.remedy
    assert caught.value.remedy.endswith(f"delete {note}.")
    note.unlink()
    bind(table, "photos", "/b/photos")
    with pytest.raises(ReportIncompatible):
        bind(table, "photos", "/a/photos")


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
    bind(table, "deck", one)
    bind(table, "deck", same)
    with pytest.raises(ReportIncompatible):
        bind(table, "deck", "s3://inspections/deck-2")


@pytest.mark.parametrize(
    ("one", "another"),
    [("/photos/a%20b", "/photos/a b"), ("s3://inspections/a%2520b", "s3://inspections/a%20b")],
)
def test_a_percent_sign_in_a_folder_s_own_name_counts(table: ReportTable, one: str, another: str) -> None:
    bind(table, "deck", one)
    with pytest.raises(ReportIncompatible):
        bind(table, "deck", another)


def test_no_key_is_written_down(table: ReportTable) -> None:
    bind(table, "deck", "s3://KEY:sesame@inspections/deck?region=eu-west-1")
    assert "sesame" not in Path(table.uri, "_surveys", "deck.json").read_text()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"uri": 7}', b"\xff"])
def test_a_damaged_note_binds_nobody(table: ReportTable, damaged: bytes) -> None:
    bind(table, "photos", "/a/photos")
    Path(table.uri, "_surveys", "photos.json").write_bytes(damaged)
    assert damaged_notes(table) == ["_surveys/photos.json"]
    bind(table, "photos", "/b/photos")
    with pytest.raises(ReportIncompatible):
        bind(table, "photos", "/a/photos")


def test_notes_are_invisible_to_readers_and_safe_from_vacuum(table: ReportTable, commit: Commit) -> None:
    bind(table, "bridge", "/a/bridge")
    commit([make_row("a.jpg")])
    mark_announced(table.place, "bridge", {"run-1": 1})
    assert len(pd.read_parquet(table.uri)) == 1
    DeltaTable(table.uri).vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
    )
    assert notes(table) == ["bridge.json"]
    assert read_announced(table.place, "bridge") == {"run-1": 1}


def test_an_object_store_keeps_notes_too(table: ReportTable, tmp_path: Path) -> None:
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    (tmp_path / "report" / "_surveys").mkdir()  # a bucket needs no folders
    store = ReportTable(
        Location("s3://bucket/report", store=Store(bucket, "report", "s3://bucket/report")),
        DeltaTable(table.uri),
    )
    bind(store, "photos", "s3://a/photos")
    with pytest.raises(ReportIncompatible, match=r"delete s3://bucket/report/_surveys/photos\.json"):
        bind(store, "photos", "s3://b/photos")
    assert notes(table) == ["photos.json"]


def test_a_name_that_leads_elsewhere_is_refused(table: ReportTable) -> None:
    with pytest.raises(UsageError):
        bind(table, "../photos", "/a/photos")


def test_a_note_that_cannot_be_written_is_a_write_failure(table: ReportTable) -> None:
    Path(table.uri, "_surveys").write_text("in the way")
    with pytest.raises(ReportWriteFailed):
        bind(table, "photos", "/a/photos")


# Which runs have been announced


def test_a_new_survey_begins_with_nothing_announced(table: ReportTable) -> None:
    assert read_announced(table.place, "bridge") is None
    bind(table, "bridge", "/a/bridge")
    assert read_announced(table.place, "bridge") == {}


def test_a_survey_of_before_there_were_notes_gets_none(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    bind(table, "bridge", "/a/bridge")
    assert read_announced(table.place, "bridge") is None


def test_a_note_of_an_older_crackmodel_counts_and_is_added_to(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    told(table).parent.mkdir()
    told(table).write_text('{"survey": "bridge", "told": {"run-1": 1, "run-2": 7}}')
    bind(table, "bridge", "/a/bridge")
    mark_announced(table.place, "bridge", {"run-2": 8, "run-3": 1})
    assert read_announced(ReportTable.open(table.uri).place, "bridge") == {"run-1": 1, "run-2": 8, "run-3": 1}


def test_a_run_keeps_the_most_rows_that_were_announced(table: ReportTable) -> None:
    bind(table, "bridge", "/a/bridge")
    for rows in (3, 10, 9):
        mark_announced(table.place, "bridge", {"a/run.1 %": rows})
    assert read_announced(table.place, "bridge") == {"a/run.1 %": 10}


def test_what_was_announced_outlives_another_source(table: ReportTable) -> None:
    bind(table, "bridge", "/a/bridge")
    mark_announced(table.place, "bridge", {"run-1": 1})
    told(table).with_suffix(".json").unlink()  # as the message about a survey that has moved says
    bind(table, "bridge", "/b/bridge")
    assert read_announced(table.place, "bridge") == {"run-1": 1}


def test_notes_of_surveys_with_alike_names_are_apart(table: ReportTable) -> None:
    names = ("bridge", "bridge.told", "bridge.announced", "bridge.json")
    for name in names:
        bind(table, name, f"/a/{name}")
    for name in names:
        mark_announced(table.place, name, {f"run-of-{name}": 1})
    assert [read_announced(table.place, name) for name in names] == [{f"run-of-{name}": 1} for name in names]
    assert damaged_notes(table) == []


def test_two_that_announce_at_once_lose_no_note(table: ReportTable) -> None:
    bind(table, "bridge", "/a/bridge")
    start = threading.Barrier(2)

    def announce(night: str) -> None:
        store = ReportTable.open(table.uri)
        start.wait()
        for number in range(30):
            mark_announced(store.place, "bridge", {f"{night}-{number}": 1})

    with ThreadPoolExecutor(2) as nights:
        list(nights.map(announce, ("one", "other")))
    assert len(read_announced(table.place, "bridge") or {}) == 60


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"told": 7}', b'{"told": {"run-1": null}}', b"\xff"])
def test_a_damaged_note_is_said_until_it_is_replaced(table: ReportTable, damaged: bytes) -> None:
    bind(table, "bridge", "/a/bridge")
    mark_announced(table.place, "bridge", {"run-1": 1})
    told(table).write_bytes(damaged)
    bind(table, "bridge", "/a/bridge")
    with pytest.raises(ReportDamaged, match=r"bridge\.told is damaged"):
        read_announced(table.place, "bridge")
    assert damaged_notes(table) == ["_surveys/bridge.told"]

    mark_announced(table.place, "bridge", {"run-2": 2})

    assert read_announced(table.place, "bridge") == {"run-1": 1, "run-2": 2}
    assert damaged_notes(table) == []


def test_two_that_replace_a_damaged_note_at_once_lose_no_run(
    table: ReportTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind(table, "bridge", "/a/bridge")
    told(table).write_bytes(b"{")
    write, others = survey_notes._write, ["other"]

    def write_after_another(*arguments: Any) -> None:
        if others:
            mark_announced(table.place, "bridge", {others.pop(): 1}, {"before": 5})
        write(*arguments)

    monkeypatch.setattr(survey_notes, "_write", write_after_another)
    mark_announced(table.place, "bridge", {"one": 1}, {"before": 5})

    assert read_announced(table.place, "bridge") == {"before": 5, "other": 1, "one": 1}


def test_runs_that_count_as_announced_are_one_note(table: ReportTable) -> None:
    presumed = {f"run-{number}": 1 for number in range(500)}
    mark_announced(table.place, "bridge", {}, presumed)

    assert read_announced(table.place, "bridge") == presumed
    assert not list(told(table).with_suffix(".announced").iterdir())


def test_a_lost_note_is_a_damaged_one(table: ReportTable) -> None:
    bind(table, "bridge", "/a/bridge")
    mark_announced(table.place, "bridge", {"run-1": 1})
    told(table).unlink()
    with pytest.raises(ReportDamaged, match=r"bridge\.told is missing"):
        read_announced(table.place, "bridge")
    assert damaged_notes(table) == ["_surveys/bridge.told"]


def test_a_note_is_written_whole_or_not_at_all(table: ReportTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mark_announced(table.place, "bridge", {"run-1": 1})
    assert not told(table).exists()


def test_a_check_leaves_out_what_is_no_note(table: ReportTable) -> None:
    bind(table, "bridge", "/a/bridge")
    for name in (
        ".0123.bridge.json",
        ".DS_Store",
        "._bridge.told",
        "notes of mine.txt",
        "bridge.json.0123.tmp",
    ):
        Path(table.uri, "_surveys", name).write_bytes(b"\0")
    Path(table.uri, "_surveys", "copy of bridge.told").write_bytes(b"\0")
    assert damaged_notes(table) == ["_surveys/copy of bridge.told"]


def test_an_announcement_that_cannot_be_noted_is_an_error_of_the_report(table: ReportTable) -> None:
    Path(table.uri, "_surveys").write_text("in the way")
    with pytest.raises(ReportError, match="_surveys"):
        mark_announced(table.place, "bridge", {"run-1": 1})
