"""Reports that an older crackmodel wrote go on being reports."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.reading.dataset import committed_rows
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.reading.query import open_report
from crackmodel.reports.schema import LATER_COLUMNS, REPORT_SCHEMA
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import BOUNDED_COLUMNS, publish_shard, write_shard
from tests.reports.rows import KEY, NOON, build_rows, make_listing, make_row

OLDER = pa.schema([field for field in REPORT_SCHEMA if field.name not in LATER_COLUMNS])


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A report as crackmodel made it before images had an `ood_score`, with one row."""
    place = tmp_path / "report"
    DeltaTable.create(str(place), schema=OLDER, partition_by=["survey"])
    write_deltalake(str(place), build_rows([make_row("old.jpg")]).select(OLDER.names), mode="append")
    return place


def append(place: Path, row: dict[str, Any]) -> None:
    table = ReportTable.open_or_create(place)
    file = write_shard(table.uri, row["survey"], row["run_id"], 0, build_rows([row]))
    publish_shard(table.uri, file)
    table.commit([file], run_id=row["run_id"])


def test_columns_that_may_be_missing_may_be_null() -> None:
    assert all(REPORT_SCHEMA.field(name).nullable for name in LATER_COLUMNS)


def test_older_report_is_read_with_null_and_stays_as_it_is(older: Path) -> None:
    with open_report(older) as report:
        assert report.sql("SELECT image, ood_score FROM latest").to_pylist() == [
            {"image": "old.jpg", "ood_score": None}
        ]
        assert report.rows().schema == REPORT_SCHEMA
        assert report.sql("SELECT * FROM unfamiliar").num_rows == 0
    assert DeltaTable(older).version() == 1


def test_new_run_appends_to_an_older_report(older: Path) -> None:
    append(older, make_row("new.jpg", run_id="run-2", ood_score=2.5, ood_fraction=1.0, ood_threshold=1.5))

    with open_report(older) as report:
        assert report.sql("SELECT image, ood_score FROM latest ORDER BY image").to_pylist() == [
            {"image": "new.jpg", "ood_score": 2.5},
            {"image": "old.jpg", "ood_score": None},
        ]
        assert report.sql("SELECT image FROM unfamiliar").to_pylist() == [{"image": "new.jpg"}]
    assert sorted(pa.schema(DeltaTable(older).schema().to_arrow()).names) == sorted(REPORT_SCHEMA.names)


def test_upgraded_report_is_whole_for_other_programs(older: Path) -> None:
    append(older, make_row("new.jpg", run_id="run-2", ood_score=2.5))

    rows = DeltaTable(older).to_pandas().sort_values("image")

    assert rows["image"].tolist() == ["new.jpg", "old.jpg"]
    assert rows["ood_score"].tolist() == pytest.approx([2.5, float("nan")], nan_ok=True)


def test_what_an_older_report_holds_is_not_scored_again(older: Path) -> None:
    listing = make_listing(("old.jpg", 1000, NOON), ("new.jpg", 1000, NOON))

    files = pending(ReportTable.open_or_create(older), listing, KEY)

    assert files["image"].to_pylist() == ["new.jpg"]


def test_report_whose_log_keeps_fewer_bounds_is_read_all_the_same(tmp_path: Path) -> None:
    bounds = [name for name in BOUNDED_COLUMNS if name != "model"]
    place = tmp_path / "report"
    DeltaTable.create(
        str(place),
        schema=REPORT_SCHEMA,
        partition_by=["survey"],
        configuration={"delta.dataSkippingStatsColumns": ",".join(bounds)},
    )
    for number in range(2):
        append(place, make_row(f"{number}.jpg", run_id=f"run-{number}"))
    table = ReportTable.open(place)
    listing = make_listing(*((f"{number}.jpg", 1000, NOON) for number in range(3)))

    assert pending(table, listing, KEY)["image"].to_pylist() == ["2.jpg"]
    assert pending(table, listing, replace(KEY, model="m@2")).num_rows == 3
    assert check_report(table).findings == ()
    assert compact(table, "bridge").files_after == 1
    assert pending(table, listing, KEY)["image"].to_pylist() == ["2.jpg"]


def test_older_report_is_checked_as_it_is_and_compacted(older: Path) -> None:
    write_deltalake(older, build_rows([make_row("other.jpg")]).select(OLDER.names), mode="append")
    before = DeltaTable(older).to_pandas().sort_values("image")
    assert check_report(ReportTable.open(older)).findings == ()
    assert DeltaTable(older).version() == 2

    done = compact(ReportTable.open(older), "bridge")

    assert (done.files_before, done.files_after, done.deleted) == (2, 1, 2)
    table = ReportTable.open(older)
    assert (check_report(table).findings, check_report(table).without_hash) == ((), 0)
    assert committed_rows(table).to_table().schema == REPORT_SCHEMA
    after = DeltaTable(older).to_pandas().sort_values("image")
    pd.testing.assert_frame_equal(after[before.columns].reset_index(drop=True), before.reset_index(drop=True))
    assert after["ood_score"].isna().all()
    assert len(pd.read_parquet(older)) == 2


def test_upgrade_happens_once(older: Path) -> None:
    upgraded = ReportTable.open_or_create(older).version

    assert upgraded == 2
    assert ReportTable.open_or_create(older).version == 2


def test_two_runs_may_upgrade_at_once(older: Path) -> None:
    faults: list[BaseException] = []
    start = threading.Barrier(4)

    def score(number: int) -> None:
        try:
            start.wait()
            append(older, make_row(f"{number}.jpg", run_id=f"run-{number}x"))
        except BaseException as fault:
            faults.append(fault)

    runs = [threading.Thread(target=score, args=(number,)) for number in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()

    assert faults == []
    assert committed_rows(ReportTable.open(older)).count_rows() == 5


def test_run_that_began_before_the_upgrade_loses_nothing(older: Path) -> None:
    early = ReportTable(*_opened(older))
    append(older, make_row("first.jpg", run_id="run-2"))
    file = write_shard(early.uri, "bridge", "run-3", 0, build_rows([make_row("second.jpg", run_id="run-3")]))
    publish_shard(early.uri, file)

    early.commit([file], run_id="run-3")

    assert committed_rows(ReportTable.open(older)).count_rows() == 3


def _opened(place: Path) -> tuple[Any, DeltaTable]:
    from crackmodel.reports.compatibility import load
    from crackmodel.reports.report_location import locate_report

    return locate_report(place), load(locate_report(place))
