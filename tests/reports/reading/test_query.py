from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from crackmodel.errors import QueryError, ReportError, ReportNotFound
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.reading import sandbox as database_module
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.reading.query import Report, open_report
from crackmodel.reports.reading.views import SUMMARY, VIEWS
from crackmodel.reports.schema import REPORT_SCHEMA, TIMESTAMP, TRANSIENT_REJECT_CODES
from crackmodel.reports.table import ReportTable
from crackmodel.surveys.tiling import tile_grid
from tests.reports.conftest import Commit
from tests.reports.rows import KEY, NOON, make_listing, make_rejected, make_row, run_name
from tests.surveys.conftest import boxes_of


def rows(table: ReportTable, query: str) -> list[tuple[Any, ...]]:
    with open_report(table.uri) as report:
        answer = report.sql(query)
    return [tuple(row.values()) for row in answer.to_pylist()]


# Views


def test_report_has_every_row_and_column_with_exact_times(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_row("b.jpg")])
    commit([make_row("a.jpg", run_id=run_name(2))])
    with open_report(table.uri) as report:
        answer = report.sql("SELECT * FROM report")
    assert answer.column_names == REPORT_SCHEMA.names
    assert answer.num_rows == 3
    assert answer.schema.field("modified_at").type == TIMESTAMP
    assert set(answer["modified_at"].to_pylist()) == {NOON}


def test_latest_is_the_newest_row_of_each_image(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg", run_id=run_name(2), verdict="crack")])
    commit([make_row("a.jpg", run_id="run-1"), make_row("b.jpg", run_id="run-1")])
    commit([make_row("a.jpg", survey="tunnel", run_id="run-1")])
    assert rows(table, "SELECT survey, image, run_id FROM latest ORDER BY ALL") == [
        ("bridge", "a.jpg", run_name(2)),
        ("bridge", "b.jpg", "run-1"),
        ("tunnel", "a.jpg", "run-1"),
    ]


@pytest.mark.parametrize("off", [timedelta(days=-9), timedelta(), timedelta(days=999)], ids=str)
def test_a_worker_whose_clock_is_wrong_changes_no_order(
    table: ReportTable, commit: Commit, off: timedelta
) -> None:
    for number, wrong in enumerate((timedelta(), off, timedelta())):
        commit([make_row("a.jpg", run_id=run_name(number), bytes=number, scored_at=NOON + wrong)])
        listing = make_listing(("a.jpg", number, NOON))
        assert pending(table, listing, KEY).num_rows == 0
        assert rows(table, "SELECT run_id FROM latest") == [(run_name(number),)]
        if number:
            compact(table, "bridge")
        assert pending(table, listing, KEY).num_rows == 0
        assert rows(table, "SELECT run_id FROM latest") == [(run_name(number),)]


def test_rejected_are_the_images_that_are_still_unreadable(table: ReportTable, commit: Commit) -> None:
    commit([make_rejected("a.jpg"), make_rejected("b.jpg", "empty")])
    commit([make_row("a.jpg", run_id=run_name(2), scored_at=NOON + timedelta(days=1))])
    commit([make_rejected("c.jpg", "moved", reject_stage="list"), make_rejected("d.jpg", reject_stage=None)])
    assert rows(table, "SELECT image, reject_code FROM rejected ORDER BY image") == [
        ("b.jpg", "empty"),
        ("d.jpg", "truncated"),
    ]


@pytest.mark.parametrize("code", sorted(TRANSIENT_REJECT_CODES - {"moved"}))
def test_a_passing_rejection_displaces_no_verdict(table: ReportTable, commit: Commit, code: str) -> None:
    commit([make_row("known.jpg", verdict="crack"), make_rejected("bad.jpg")])
    for run_id in (run_name(2), run_name(3)):
        passing = {"run_id": run_id, "reject_stage": "fetch"}
        commit([make_rejected(image, code, **passing) for image in ("known.jpg", "bad.jpg", "new.jpg")])
    newest = [("bad.jpg", "truncated"), ("known.jpg", None), ("new.jpg", code)]
    assert rows(table, "SELECT image, reject_code FROM latest ORDER BY image") == newest
    assert rows(table, "SELECT run_id FROM latest WHERE image = 'new.jpg'") == [(run_name(3),)]
    assert rows(table, "SELECT image FROM rejected ORDER BY image") == [("bad.jpg",), ("new.jpg",)]
    assert rows(table, "SELECT count(*) FROM report") == [(8,)]
    known = ("known.jpg", 1000, NOON)
    assert pending(table, make_listing(known), KEY).num_rows == 1
    commit([make_rejected("known.jpg", run_id=run_name(4))])
    assert rows(table, "SELECT reject_code FROM latest WHERE image = 'known.jpg'") == [("truncated",)]


def test_an_image_that_is_gone_is_in_latest_and_not_in_current(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg", verdict="crack"), make_row("b.jpg", verdict="crack"), make_row("c.jpg")])
    commit([make_rejected("a.jpg", "vanished", reject_stage="list", run_id=run_name(2))])
    commit([make_rejected("b.jpg", "moved", reject_stage="list", run_id=run_name(2))])
    assert rows(table, "SELECT image, verdict FROM latest ORDER BY image") == [
        ("a.jpg", "rejected"),
        ("b.jpg", "rejected"),
        ("c.jpg", "clear"),
    ]
    assert rows(table, "SELECT image FROM current") == [("c.jpg",)]


def test_summary_and_views_count_the_same(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg", verdict="crack"), make_row("b.jpg"), make_rejected("c.jpg"), make_row("d.jpg")])
    commit([make_rejected("a.jpg", "unreadable", run_id=run_name(2), reject_stage="fetch")])
    commit([make_rejected("d.jpg", "moved", run_id=run_name(2), reject_stage="list")])
    summary = "SELECT images, cracks, clear, rejected, departed, last_run FROM "
    assert rows(table, f"{summary} ({SUMMARY})") == [(3, 1, 1, 1, 1, run_name(2))]
    assert rows(table, "SELECT count(*) FROM current") == [(3,)]
    assert rows(table, "SELECT count(*) FROM rejected") == [(1,)]
    ran = rows(table, "SELECT images, rejected, departed FROM runs WHERE run_id <> 'run-1'")
    assert ran == [(1, 1, 1)]


def test_runs_are_summed_up(table: ReportTable, commit: Commit) -> None:
    end = NOON + timedelta(minutes=5)
    commit([make_row("a.jpg", scored_at=NOON), make_row("b.jpg", verdict="crack", scored_at=end)])
    commit([make_rejected("c.jpg", scored_at=NOON)])
    commit([make_row("a.jpg", run_id=run_name(2), model="m@2", scored_at=end)])
    commit([make_rejected("b.jpg", "moved", reject_stage="list", run_id=run_name(3), scored_at=end)])
    assert rows(table, "SELECT * FROM runs ORDER BY run_number(run_id)") == [
        ("run-1", "bridge", "m@1", NOON, end, 3, 1, 1, 1, 0),
        (run_name(2), "bridge", "m@2", end, end, 1, 0, 1, 0, 0),
        (run_name(3), "bridge", "m@1", end, end, 0, 0, 0, 0, 1),
    ]


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [
        (227, 227, 227, 0),
        (300, 340, 227, 0),
        (3000, 4000, 227, 0),
        (3000, 4000, 227, 113),
        (200, 5000, 227, 50),
        (5000, 100, 227, 0),
        (454, 454, 227, 0),
        (455, 453, 227, 1),
    ],
)
def test_tile_boxes_are_the_windows_that_were_scored(
    table: ReportTable, commit: Commit, height: int, width: int, tile: int, overlap: int
) -> None:
    grid = tile_grid(height, width, tile, overlap)
    shape = {"tile_size": grid.tile_size, "tile_overlap": grid.overlap}
    size = {"height": height, "width": width, "tile_rows": grid.rows, "tile_columns": grid.columns}
    probabilities = np.linspace(0, 1, grid.rows * grid.columns, dtype=np.float32)
    commit([make_row("a.jpg", tile_probabilities=probabilities.tolist(), **shape, **size)])
    tiles = rows(
        table,
        "SELECT x0, y0, x1, y1, tile_row, tile_column, probability FROM tiles ORDER BY tile_row, tile_column",
    )
    assert [tile[:4] for tile in tiles] == [tuple(box) for box in boxes_of(grid).tolist()]
    assert [tile[4:6] for tile in tiles] == [(r, c) for r in range(grid.rows) for c in range(grid.columns)]
    assert np.array_equal(np.array([tile[6] for tile in tiles], np.float32), probabilities)


def test_a_tile_at_the_threshold_is_a_crack_and_places_are_passed_on(
    table: ReportTable, commit: Commit
) -> None:
    commit(
        [
            make_row(
                "a.jpg",
                width=681,
                tile_columns=3,
                tile_probabilities=[0.25, 0.5, 0.75],
                latitude=51.5,
                longitude=-0.125,
            ),
            make_rejected("b.jpg", tile_probabilities=[0.5]),
        ]
    )
    assert rows(table, "SELECT crack, latitude, longitude FROM tiles ORDER BY tile_column") == [
        (False, 51.5, -0.125),
        (True, 51.5, -0.125),
        (True, 51.5, -0.125),
    ]


def test_all_views_of_an_empty_report_are_empty(table: ReportTable) -> None:
    for view in VIEWS:
        assert rows(table, f"SELECT * FROM {view}") == []


# Reading


def test_an_open_report_does_not_change_under_its_reader(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    with open_report(table.uri) as report:
        commit([make_row("b.jpg")])
        assert report.version == 1
        assert report.sql("SELECT count(*) AS n FROM report")["n"].to_pylist() == [1]
        assert report.rows().count_rows() == 1
    assert open_report(table.uri).rows().count_rows() == 2


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ReportNotFound):
        open_report(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_order_of_the_answer_is_the_order_asked_for(table: ReportTable, commit: Commit) -> None:
    commit([make_row(f"{n:04d}.jpg") for n in range(3000)])
    names = [name for (name,) in rows(table, "SELECT image FROM report ORDER BY image DESC")]
    assert names == sorted(names, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        "FROM latest",
        "WITH c AS (SELECT * FROM report) SELECT count(*) FROM c",
        "SELECT image FROM report; ",
        "-- the worst first\nSELECT * FROM latest ORDER BY crack_probability DESC",
        "DESCRIBE tiles",
        "SHOW TABLES",
        "SUMMARIZE latest",
        "VALUES (1)",
        "SELECT * FROM (PIVOT latest ON verdict IN ('crack', 'clear') USING count(*) GROUP BY survey)",
        "SELECT date_trunc('day', scored_at) AS day, count(*) FROM report GROUP BY day",
        "SELECT list_max(tile_probabilities), scored_at::DATE, scored_at > now() FROM report",
    ],
)
def test_every_kind_of_reading_works(table: ReportTable, commit: Commit, query: str) -> None:
    commit([make_row("a.jpg")])
    assert len(rows(table, query)) >= 1


def test_times_are_utc_whatever_the_machine_says(
    table: ReportTable, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    commit([make_row("a.jpg", modified_at=NOON.replace(hour=23))])
    assert rows(table, "SELECT day(modified_at), hour(modified_at) FROM report") == [(4, 23)]


@pytest.mark.parametrize(
    "wrong",
    ["SELECT nope FROM report", "SELECT image::INTEGER FROM report", "SELECT 1; SELECT 2", "FROM glob('/*')"],
)
def test_a_wrong_query_does_not_spoil_the_next(table: ReportTable, commit: Commit, wrong: str) -> None:
    commit([make_row("a.jpg"), make_row("b.jpg")])
    with open_report(table.uri) as report:
        for _ in range(2):
            with pytest.raises(QueryError):
                report.sql(wrong)
            assert report.sql("SELECT image FROM latest").num_rows == 2


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("SELECT image FROM report", 3),
        ("SELECT image FROM report ORDER BY image; -- the first ones", 3),
        ("SELECT image, image FROM report /* all */", 3),
        ("SELECT image FROM report LIMIT 2", 2),
        ("SHOW TABLES", 3),
        ("SELECT 1 WHERE false", 0),
    ],
)
def test_a_limit_gives_the_first_rows_as_they_are(
    table: ReportTable, commit: Commit, query: str, count: int
) -> None:
    commit([make_row(f"{n}.jpg") for n in range(5)])
    with open_report(table.uri) as report:
        for limit in (3, 0):
            assert report.sql(query, limit).equals(report.sql(query).slice(0, limit))
        assert report.sql(query, 3).num_rows == count


def test_a_limit_computes_no_more_than_it_shows(table: ReportTable) -> None:
    with open_report(table.uri) as report:
        answer = report.sql("SELECT i, repeat('x', 1000) AS s FROM range(10_000_000_000) t(i)", limit=1001)
        assert answer["i"].to_pylist() == list(range(1001))
        assert report.sql("SELECT 1 AS n", limit=5)["n"].to_pylist() == [1]


@pytest.mark.parametrize(
    "query", ["SELECT image::INTEGER FROM report", "SELECT error('x')", "FROM glob('/*')"]
)
def test_a_limit_changes_no_error(table: ReportTable, commit: Commit, query: str) -> None:
    commit([make_row("a.jpg")])
    with open_report(table.uri) as report:
        with pytest.raises(QueryError) as whole:
            report.sql(query)
        with pytest.raises(QueryError) as first:
            report.sql(query, limit=5)
    assert str(first.value) == str(whole.value)


# What a query may not do


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT 1; DROP VIEW report", "2 statements"),
        ("selec 1", "cannot be understood"),
        ("COPY report TO 'out.csv'", "COPY"),
        ("COPY (SELECT 1) TO 'out.parquet'", "COPY"),
        ("ATTACH 'other.db'", "ATTACH"),
        ("INSTALL httpfs", "LOAD"),
        ("LOAD httpfs", "LOAD"),
        ("SET enable_external_access = true", "SET"),
        ("SET TimeZone = 'Europe/Berlin'", "SET"),
        ("RESET threads", "SET"),
        ("PRAGMA database_list", "PRAGMA"),
        ("CREATE TABLE t AS SELECT 1", "CREATE"),
        ("DELETE FROM report", "DELETE"),
        ("UPDATE report SET verdict = 'clear'", "UPDATE"),
        ("INSERT INTO report SELECT * FROM report", "INSERT"),
        ("DROP VIEW latest", "DROP"),
        ("EXPORT DATABASE 'out'", "EXPORT"),
        ("EXPLAIN ANALYZE COPY report TO 'out.csv'", "EXPLAIN"),
        ("CALL pragma_version()", "CALL"),
        ("CHECKPOINT", "not a SELECT"),
        ("PIVOT report ON verdict", "PIVOT goes into parentheses"),
        ("SELECT * FROM read_csv('/etc/passwd')", "sees the report alone"),
        ("SELECT * FROM read_text('/etc/hostname')", "sees the report alone"),
        ("SELECT * FROM read_parquet('https://example.org/a.parquet')", "sees the report alone|cannot"),
        ("SELECT * FROM glob('/*')", "sees the report alone"),
        (
            "SELECT * FROM '/etc/passwd'",
            "The views are report, latest, current, tiles",
        ),
        ("FROM python_arrow_scan(1, 2, 3)", "raw memory"),
        ('SELECT * FROM "PANDAS_SCAN"(1)', "raw memory"),
        ("SELECT getenv('HOME')", "cannot be answered"),
        ("SELECT 'a'::INTEGER", "Could not convert"),
        ("SELECT error('%s')", "cannot be answered"),
    ],
)
def test_anything_but_one_harmless_select_is_refused(
    table: ReportTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with open_report(table.uri) as report, pytest.raises(QueryError, match=message) as failure:
        report.sql(query)
    assert "\n" not in str(failure.value)
    assert failure.value.remedy
    assert sorted(tmp_path.rglob("*")) == before


def test_the_database_itself_is_shut_if_the_statement_check_ever_fails(
    table: ReportTable, tmp_path: Path
) -> None:
    report = open_report(table.uri)
    for statement in (
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'other.db'}'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
    ):
        with pytest.raises(duckdb.Error):
            report._database.execute(statement)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]


def test_python_variables_are_out_of_reach(table: ReportTable) -> None:
    secret = pa.table({"word": ["xyzzy"]})
    with open_report(table.uri) as report, pytest.raises(QueryError, match="secret"):
        report.sql("SELECT * FROM secret")
    assert secret.num_rows == 1


def test_unknown_column_is_answered_with_the_columns_of_the_view(table: ReportTable) -> None:
    with open_report(table.uri) as report, pytest.raises(QueryError) as failure:
        report.sql("SELECT probabilty FROM tiles")
    assert '"probabilty"' in failure.value.problem
    assert "Columns of tiles: survey, image, tile_row" in failure.value.remedy
    assert "Columns of runs" not in failure.value.remedy


def test_a_deleted_file_is_the_reports_fault_not_the_querys(table: ReportTable, commit: Commit) -> None:
    file = commit([make_row("a.jpg")])
    report = open_report(table.uri)
    Path(table.uri, file.path).unlink()
    with pytest.raises(ReportError, match="backup") as failure:
        report.sql("SELECT image FROM report")
    assert not isinstance(failure.value, QueryError)


def test_too_large_an_answer_says_what_to_leave_out(
    table: ReportTable, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = database_module._CLOSED | {"memory_limit": "20MB", "max_temp_directory_size": "0KB"}
    monkeypatch.setattr(database_module, "_CLOSED", small)
    commit([make_row("a.jpg")])
    with open_report(table.uri) as report, pytest.raises(QueryError, match="fewer columns"):
        report.sql("SELECT list(i ORDER BY i DESC) FROM range(20000000) t(i)")


def test_example_of_the_docstring_runs(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    assert Report.sql.__doc__ is not None
    query = Report.sql.__doc__.split('.sql("')[1].split('")')[0]
    assert rows(table, query) == [("clear", 1)]
