from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from crackmodel.reports.reading import incremental
from crackmodel.reports.reading.incremental import count_missing, gone_images, pending
from crackmodel.reports.reading.query import open_report
from crackmodel.reports.reading.run_statistics import RunCounts, TopImage, count_rows, top_images
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.schema import REJECT_CODES
from crackmodel.reports.table import ReportTable
from tests.reports.conftest import Commit
from tests.reports.rows import KEY, NOON, make_listing, make_rejected, make_row, run_name

A = ("a.jpg", 1000, NOON)
B = ("b.jpg", 1000, NOON)


def left(table: ReportTable, listing: pa.Table, *, retry_rejected: bool = False, **changes: str) -> list[str]:
    files = pending(table, listing, replace(KEY, **changes), retry_rejected=retry_rejected)
    return list(files["image"].to_pylist())


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
    "change",
    [{"survey": "tunnel"}, {"model": "m@2"}, {"model_sha256": "b" * 64}, {"preprocess": "other"}],
    ids=str,
)
def test_another_survey_version_model_or_preprocessing_starts_anew(
    table: ReportTable, commit: Commit, change: dict[str, str]
) -> None:
    commit([make_row("a.jpg")])
    assert left(table, make_listing(A), **change) == ["a.jpg"]


def test_rejected_images_are_done_unless_they_are_to_be_retried(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_rejected("b.jpg")])
    assert left(table, make_listing(A, B)) == []
    assert left(table, make_listing(A, B), retry_rejected=True) == ["b.jpg"]
    commit([make_row("b.jpg", run_id=run_name(2))])
    assert left(table, make_listing(A, B), retry_rejected=True) == []


@pytest.mark.parametrize("code", sorted(REJECT_CODES))
def test_only_what_may_have_been_bad_luck_is_tried_again(
    table: ReportTable, commit: Commit, code: str
) -> None:
    commit([make_rejected("a.jpg", code)])
    again = ["a.jpg"] if code in {"vanished", "moved", "unreadable", "changed", "scoring_failed"} else []
    assert left(table, make_listing(A)) == again
    commit([make_row("a.jpg", run_id=run_name(2))])
    assert left(table, make_listing(A)) == []


def test_an_image_that_fell_ill_after_it_was_scored_is_tried_again(
    table: ReportTable, commit: Commit
) -> None:
    commit([make_row("a.jpg")])
    commit([make_rejected("a.jpg", "unreadable", run_id=run_name(2))])
    assert left(table, make_listing(A)) == ["a.jpg"]


def test_a_file_that_was_replaced_and_restored_is_scored_again(table: ReportTable, commit: Commit) -> None:
    replaced = ("a.jpg", 2000, NOON + timedelta(days=1))
    commit([make_row("a.jpg", verdict="crack")])
    commit([make_row("a.jpg", bytes=2000, modified_at=replaced[2], run_id=run_name(2))])
    assert left(table, make_listing(replaced)) == []
    assert left(table, make_listing(A)) == ["a.jpg"]
    commit([make_row("a.jpg", verdict="crack", run_id=run_name(3))])
    assert left(table, make_listing(A)) == []
    with open_report(table.uri) as report:
        assert report.sql("SELECT verdict FROM latest")["verdict"].to_pylist() == ["crack"]


def test_newer_rows_of_another_model_or_tiling_take_nothing_back(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    for change in ({"model": "m@2"}, {"model_sha256": "b" * 64}, {"preprocess": "other"}):
        commit([make_rejected("a.jpg", "unreadable", bytes=7, run_id=run_name(2), **change)])
    assert left(table, make_listing(A)) == []


def test_a_newer_row_of_another_model_that_says_it_is_gone_counts(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_row("b.jpg")])
    commit(
        [make_rejected("a.jpg", "vanished", model_sha256="b" * 64, run_id=run_name(2), reject_stage="list")]
    )
    assert left(table, make_listing(A, B)) == ["a.jpg"]


def test_an_image_that_is_gone_is_found_whatever_came_between(table: ReportTable, commit: Commit) -> None:
    """Its file could not be read, or vanished while a run was on, in the night before it was moved."""
    commit([make_row("a.jpg", sha256="a" * 64), make_row("b.jpg", sha256="b" * 64)])
    passing = {"run_id": run_name(2), "reject_stage": "fetch", "sha256": None}
    commit([make_rejected("a.jpg", "unreadable", **passing), make_rejected("b.jpg", "vanished", **passing)])
    commit([make_row("c.jpg", sha256="a" * 64, run_id=run_name(3))])
    listing = make_listing(("c.jpg", 1000, NOON))
    gone = gone_images(table, listing, "bridge").select(["image", "now"])
    assert gone.to_pylist() == [{"image": "a.jpg", "now": "c.jpg"}, {"image": "b.jpg", "now": None}]
    departed = {"run_id": run_name(3), "reject_stage": "list"}
    commit([make_rejected("a.jpg", "moved", **departed), make_rejected("b.jpg", "vanished", **departed)])
    assert gone_images(table, listing, "bridge").num_rows == 0


def test_only_files_without_any_row_are_missing(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_rejected("b.jpg", "vanished")])
    commit([make_row("a.jpg", bytes=2, run_id=run_name(2))])
    listing = make_listing(A, B, ("c.jpg", 1000, NOON), ("b.jpg", 999, NOON))
    assert left(table, listing) == ["a.jpg", "b.jpg", "b.jpg", "c.jpg"]
    assert count_missing(table, listing, KEY) == 2
    assert count_missing(table, listing, replace(KEY, preprocess="other")) == 4
    assert count_missing(table, listing, replace(KEY, model="m@2")) == 4


def test_pending_keeps_all_columns_and_types_of_the_listing(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    listing = make_listing(B, A).append_column("etag", pa.array(["x", None]))
    files = pending(table, listing, KEY)
    assert files.schema == listing.schema
    assert files.equals(listing.slice(0, 1))


def test_an_empty_listing_has_nothing_pending(table: ReportTable) -> None:
    assert left(table, make_listing()) == []


def test_a_file_of_unknown_size_is_always_pending(table: ReportTable, commit: Commit) -> None:
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
    commit([make_row("a.jpg", run_id=run_name(2))])
    counts = count_rows(table, "run-1")
    assert counts == RunCounts("run-1", 6, 2, 1, 3, {"truncated": 2, "empty": 1})
    assert counts.scored == 3
    assert list(counts.reject_codes) == ["truncated", "empty"]


def test_a_known_survey_spares_the_others_files(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg", crack_probability=0.75)])
    other = commit([make_row("b.jpg", survey="tunnel", crack_probability=0.25)])
    assert count_rows(table, "run-1").rows == 2
    Path(table.uri, other.path).unlink()
    assert count_rows(table, "run-1", survey="bridge").rows == 1
    assert [image.image for image in top_images(table, "run-1", survey="bridge")] == ["a.jpg"]


def test_unknown_run_has_no_rows(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    assert count_rows(table, run_name(7)) == RunCounts(run_name(7), 0, 0, 0, 0, {})
    assert top_images(table, run_name(7)) == ()


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
    commit([make_row("other.jpg", crack_probability=1.0, run_id=run_name(2))])
    assert top_images(table, "run-1", 2) == (
        TopImage("bridge", "b.jpg", 0.75, 0.5, 2, 2, 2),
        TopImage("bridge", "a.jpg", 0.75, 0.0, 1, 1, None),
    )
    assert [image.image for image in top_images(table, "run-1")] == ["b.jpg", "a.jpg", "c.jpg", "low.jpg"]


def test_a_comparison_that_cannot_do_with_little_memory_gets_more(
    table: ReportTable, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit([make_row("a.jpg")])
    monkeypatch.setattr(incremental, "_MEGABYTES_AT_ONCE", 0.001)
    with pytest.raises(duckdb.OutOfMemoryException), open_database({}, megabytes=0.001) as database:
        database.sql("SELECT list(range::VARCHAR) FROM range(9999)").fetchall()
    assert left(table, make_listing(A, B)) == ["b.jpg"]


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
@pytest.mark.parametrize("most_parts", [1, 2, 16])
def test_a_comparison_in_parts_finds_the_same(
    table: ReportTable, commit: Commit, monkeypatch: pytest.MonkeyPatch, at_once: int, most_parts: int
) -> None:
    monkeypatch.setattr(incremental, "_FILES_AT_ONCE", at_once)
    monkeypatch.setattr(incremental, "_MOST_PARTS", most_parts)
    names = ["\U0001f309.jpg", "zz.jpg", "\xfc.jpg", "b/2.jpg", "b/1.jpg", "a.jpg", "Z.jpg"]
    commit([make_row(name) for name in names[2:]])
    changed = [(name, 1000 + (name == "b/1.jpg"), NOON) for name in names]
    assert left(table, make_listing(*changed)) == ["b/1.jpg", "zz.jpg", "\U0001f309.jpg"]
