from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from crackmodel.errors import ReportIncompatible, ReportNotFound, ReportWriteFailed
from crackmodel.reports.reading.dataset import committed_rows
from crackmodel.reports.reading.run_statistics import count_rows
from crackmodel.reports.schema import REPORT_SCHEMA
from crackmodel.reports.table import ReportTable
from tests.reports.rows import build_rows, make_row

Opener = Callable[[Path], ReportTable]
OPENERS = pytest.mark.parametrize(
    "opener", [ReportTable.open, ReportTable.open_or_create], ids=["open", "open_or_create"]
)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def create(folder: Path, schema: pa.Schema, partition_by: str | None = "survey") -> None:
    DeltaTable.create(str(folder), schema=schema, partition_by=partition_by)


def test_nothing_there_is_not_found_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(ReportNotFound, match="crackmodel score"):
        ReportTable.open(tmp_path / "report")
    assert tree(tmp_path) == []


def test_empty_folder_is_not_found_but_may_become_a_report(tmp_path: Path) -> None:
    with pytest.raises(ReportNotFound):
        ReportTable.open(tmp_path)
    assert ReportTable.open_or_create(tmp_path).version == 0
    assert ReportTable.open(tmp_path).version == 0


@pytest.mark.parametrize("left", [(), ("_commit_1f.json.tmp",), (f"{0:020d}.json#1",)], ids=str)
def test_report_whose_making_was_interrupted_is_made_again(tmp_path: Path, left: tuple[str, ...]) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_locks").mkdir()
    for name in left:
        (tmp_path / "_delta_log" / name).write_bytes(b"{")
    with pytest.raises(ReportNotFound):
        ReportTable.open(tmp_path)
    assert ReportTable.open_or_create(tmp_path).version == 0
    assert committed_rows(ReportTable.open(tmp_path)).count_rows() == 0


def test_a_log_of_checkpoints_alone_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{20:020d}.checkpoint.parquet").write_bytes(b"PAR1")
    with pytest.raises(ReportIncompatible):
        ReportTable.open_or_create(tmp_path)


def test_created_report_has_the_schema_and_no_rows(table: ReportTable) -> None:
    delta = DeltaTable(table.uri)
    assert pa.schema(delta.schema().to_arrow()) == REPORT_SCHEMA
    assert delta.metadata().partition_columns == ["survey"]
    assert committed_rows(table).to_table().num_rows == 0


def test_existing_report_is_opened_not_replaced(table: ReportTable) -> None:
    first = DeltaTable(table.uri).metadata().id
    ReportTable.open_or_create(table.uri)
    assert DeltaTable(table.uri).metadata().id == first


@OPENERS
def test_a_file_is_not_a_report(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "report").write_text("notes")
    with pytest.raises(ReportIncompatible, match="is a file"):
        opener(tmp_path / "report")
    assert (tmp_path / "report").read_text() == "notes"


@OPENERS
def test_folder_of_other_things_stays_as_it_is(tmp_path: Path, opener: Opener) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ReportIncompatible, match="other files"):
        opener(tmp_path)
    assert tree(tmp_path) == ["holiday.jpg"]


@OPENERS
@pytest.mark.parametrize(
    ("schema", "partition"),
    [
        (pa.schema([("survey", pa.string()), ("price", pa.float64())]), "survey"),
        (REPORT_SCHEMA, None),
        (REPORT_SCHEMA, "run_id"),
        (REPORT_SCHEMA.set(2, pa.field("bytes", pa.string())), "survey"),
    ],
    ids=["another table", "no partition", "another partition", "another type"],
)
def test_another_delta_table_is_not_a_report(
    tmp_path: Path, opener: Opener, schema: pa.Schema, partition: str | None
) -> None:
    create(tmp_path / "table", schema, partition)
    before = tree(tmp_path)
    with pytest.raises(ReportIncompatible, match="not a report of crackmodel"):
        opener(tmp_path / "table")
    assert tree(tmp_path) == before


def test_older_report_names_the_columns_it_lacks(tmp_path: Path) -> None:
    older = REPORT_SCHEMA.remove(REPORT_SCHEMA.get_field_index("tile_overlap"))
    create(tmp_path / "report", older)
    with pytest.raises(ReportIncompatible, match="older crackmodel and lacks: tile_overlap"):
        ReportTable.open(tmp_path / "report")


def test_newer_report_asks_for_an_update(tmp_path: Path) -> None:
    create(tmp_path / "report", REPORT_SCHEMA.append(pa.field("heatmap", pa.string())))
    with pytest.raises(ReportIncompatible, match=r"newer crackmodel.*heatmap.*Update"):
        ReportTable.open(tmp_path / "report")


def test_unreadable_log_is_explained_in_one_line(table: ReportTable) -> None:
    Path(table.uri, "_delta_log", f"{0:020d}.json").write_text("garbage\n")
    with pytest.raises(ReportIncompatible, match="_delta_log from a backup") as failure:
        ReportTable.open(table.uri)
    assert "\n" not in str(failure.value)


def test_lost_log_is_not_taken_for_an_empty_report(table: ReportTable) -> None:
    Path(table.uri, "survey=bridge").mkdir()
    shutil.rmtree(Path(table.uri, "_delta_log"))
    with pytest.raises(ReportIncompatible, match="no report"):
        ReportTable.open_or_create(table.uri)


def test_report_that_cannot_be_made_is_a_write_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((ReportWriteFailed, ReportIncompatible)):
        ReportTable.open_or_create(tmp_path / "file" / "report")


def test_deletion_vectors_of_another_program_are_refused(table: ReportTable) -> None:
    DeltaTable(table.uri).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    with pytest.raises(ReportIncompatible, match="deletionVectors"):
        committed_rows(ReportTable.open(table.uri))


def test_rows_of_any_other_writer_are_read_too(table: ReportTable) -> None:
    write_deltalake(table.uri, build_rows([make_row(), make_row("b.jpg", run_id="run-2")]), mode="append")
    assert count_rows(ReportTable.open(table.uri), "run-2").rows == 1
