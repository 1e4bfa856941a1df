"""The note of what nights have told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from crackmodel.errors import ReportWriteFailed
from crackmodel.reports.table import ReportTable
from tests.reports.conftest import Commit
from tests.reports.rows import make_row


def note(table: ReportTable, survey: str = "bridge") -> Path:
    return Path(table.uri, "_surveys", f"{survey}.told")


def test_a_new_survey_begins_with_nothing_told(table: ReportTable) -> None:
    table.claim("bridge", "/a/bridge")
    assert table.told("bridge") == {}


def test_a_survey_of_before_there_were_notes_gets_none(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    table.claim("bridge", "/a/bridge")
    assert table.told("bridge") is None


def test_what_was_told_outlives_another_claim(table: ReportTable, commit: Commit) -> None:
    table.claim("bridge", "/a/bridge")
    commit([make_row("a.jpg")])
    table.remember_told("bridge", {"run-1": 1})
    note(table).with_suffix(".json").unlink()  # as the message about a survey that has moved says
    table.claim("bridge", "/b/bridge")
    assert table.told("bridge") == {"run-1": 1}
    assert len(pd.read_parquet(table.uri)) == 1


def test_notes_of_surveys_with_alike_names_are_apart(table: ReportTable) -> None:
    table.claim("bridge", "/a/bridge")
    table.claim("bridge.told", "/a/bridge.told")
    table.remember_told("bridge", {"run-1": 1})
    assert table.told("bridge.told") == {}
    table.claim("bridge.told", "/a/bridge.told")


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"told": 7}', b'{"told": {"run-1": null}}', b"\xff"])
def test_a_damaged_note_is_none(table: ReportTable, damaged: bytes) -> None:
    table.claim("bridge", "/a/bridge")
    note(table).write_bytes(damaged)
    assert table.told("bridge") is None


def test_a_note_is_replaced_whole_or_not_at_all(table: ReportTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.remember_told("bridge", {"run-1": 1})
    before = note(table).read_bytes()
    monkeypatch.setattr("json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        table.remember_told("bridge", {"run-2": 1})
    assert note(table).read_bytes() == before


def test_a_note_that_cannot_be_written_is_a_write_failure(table: ReportTable) -> None:
    Path(table.uri, "_surveys").write_text("in the way")
    with pytest.raises(ReportWriteFailed):
        table.remember_told("bridge", {"run-1": 1})
