from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from crackmodel.reports.table import ReportTable, RunCounts, TopImage

from .conftest import Commit
from .rows import MODEL, NOON, PREPROCESS, make_listing, make_rejected, make_row

A = ("a.jpg", 1000, NOON)
B = ("b.jpg", 1000, NOON)


def left(table: ReportTable, listing: pa.Table, **changes: Any) -> list[str]:
    job: dict[str, Any] = {"survey": "bridge", "model_sha256": MODEL, "preprocess": PREPROCESS}
    return list(table.pending(listing, **(job | changes))["image"].to_pylist())


def test_everything_is_pending_in_an_empty_report(table: ReportTable) -> None:
    assert left(table, make_listing(B, A)) == ["a.jpg", "b.jpg"]


def test_second_night_has_nothing_pending(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_row("b.jpg", verdict="crack")])
    assert left(table, make_listing(A, B)) == []


def test_pending_sees_what_others_committed_meanwhile(table: ReportTable, commit: Commit) -> None:
    other = ReportTable.open(table.uri)
    commit([make_row("a.jpg")])
    assert left(other, make_listing(A, B)) == ["b.jpg"]


@pytest.mark.parametrize(
    "changed",
    [
        ("a.jpg", 1001, NOON),
        ("a.jpg", 1000, NOON + timedelta(microseconds=1)),
        ("a.jpg", 1000, NOON - timedelta(microseconds=1)),
        ("A.jpg", 1000, NOON),
    ],
    ids=["size", "a microsecond later", "a microsecond earlier", "name"],
)
def test_a_changed_file_is_pending_again(table: ReportTable, commit: Commit, changed: Any) -> None:
    commit([make_row("a.jpg")])
    assert left(table, make_listing(changed)) == [changed[0]]


@pytest.mark.parametrize(
    "change", [{"survey": "tunnel"}, {"model_sha256": "b" * 64}, {"preprocess": "other"}], ids=str
)
def test_another_survey_model_or_preprocessing_starts_anew(
    table: ReportTable, commit: Commit, change: dict[str, str]
) -> None:
    commit([make_row("a.jpg")])
    assert left(table, make_listing(A), **change) == ["a.jpg"]


def test_rejected_images_are_done_unless_they_are_to_be_retried(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_rejected("b.jpg")])
    assert left(table, make_listing(A, B)) == []
    assert left(table, make_listing(A, B), retry_rejected=True) == ["b.jpg"]
    commit([make_row("b.jpg", run_id="run-2")])
    assert left(table, make_listing(A, B), retry_rejected=True) == []


def test_pending_keeps_all_columns_and_types_of_the_listing(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    listing = make_listing(B, A).append_column("etag", pa.array(["x", None]))
    pending = table.pending(listing, survey="bridge", model_sha256=MODEL, preprocess=PREPROCESS)
    assert pending.schema == listing.schema
    assert pending.equals(listing.slice(0, 1))


def test_an_empty_listing_has_nothing_pending(table: ReportTable) -> None:
    assert left(table, make_listing()) == []


def test_unknown_size_equals_unknown_size(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    listing = make_listing(A).set_column(1, "bytes", pa.array([None], pa.int64()))
    assert left(table, listing) == ["a.jpg"]


def test_names_sort_by_code_point(table: ReportTable) -> None:
    names = ["a/1.jpg", "a.jpg", "B.jpg", "é.jpg", "z.jpg", "\U0001f600.jpg"]
    assert left(table, make_listing(*((name, 1, NOON) for name in names))) == sorted(names)


def test_run_is_counted_by_verdict_and_reject_code(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_row("b.jpg", verdict="crack"), make_row("c.jpg", verdict="crack")])
    commit(
        [
            make_rejected("d.jpg", "empty"),
            make_rejected("e.jpg", "truncated"),
            make_rejected("f.jpg", "truncated"),
        ]
    )
    commit([make_row("a.jpg", run_id="run-2")])
    counts = table.count("run-1")
    assert counts == RunCounts("run-1", 6, 2, 1, 3, {"truncated": 2, "empty": 1})
    assert counts.scored == 3
    assert list(counts.reject_codes) == ["truncated", "empty"]


def test_unknown_run_has_no_rows(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    assert table.count("run-7") == RunCounts("run-7", 0, 0, 0, 0, {})
    assert table.top("run-7") == ()


def test_top_images_come_worst_first_with_their_worst_tile(table: ReportTable, commit: Commit) -> None:
    grid = {"tile_rows": 2, "tile_columns": 2, "crack_fraction": 0.5}
    commit(
        [
            make_row("low.jpg", crack_probability=0.25),
            make_row("b.jpg", crack_probability=0.75, tile_probabilities=[0.0, 0.5, 0.75, 0.75], **grid),
            make_row("c.jpg", crack_probability=0.75, tile_probabilities=None),
            make_row("a.jpg", crack_probability=0.75, tile_probabilities=None),
            make_rejected("bad.jpg"),
        ]
    )
    commit([make_row("other.jpg", crack_probability=1.0, run_id="run-2")])
    assert table.top("run-1", 2) == (
        TopImage("bridge", "b.jpg", 0.75, 0.5, 2, 2, 2),
        TopImage("bridge", "a.jpg", 0.75, 0.0, 1, 1, None),
    )
    assert [image.image for image in table.top("run-1")] == ["b.jpg", "a.jpg", "c.jpg", "low.jpg"]
