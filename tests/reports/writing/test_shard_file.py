from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crackmodel.errors import ReportWriteFailed, UsageError
from crackmodel.reports.reading.dataset import committed_rows
from crackmodel.reports.schema import FILE_SCHEMA, PARTITION_COLUMN
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import publish_shard, write_shard
from tests.reports.rows import MODEL, build_rows, make_row

ROWS = build_rows([make_row(f"{n:05d}.jpg", sha256=os.urandom(32).hex()) for n in range(20_000)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_written_shard_is_hidden_until_published(table: ReportTable) -> None:
    file = write_shard(table.uri, "bridge", "run-1", 7, build_rows([make_row()]))
    folder = Path(table.uri, "survey=bridge")
    (hidden,) = names(folder)
    assert hidden.startswith(".part-run-1-000007")
    assert hidden.endswith(".parquet.tmp")
    assert file.hidden_path == f"survey=bridge/{hidden}"

    publish_shard(table.uri, file)
    assert names(folder) == [file.path.removeprefix("survey=bridge/")]
    assert not names(folder)[0].startswith(".")


def test_file_holds_the_rows_without_the_survey_column(table: ReportTable) -> None:
    rows = build_rows([make_row("b.jpg"), make_row("a.jpg", tile_probabilities=[0.5, 0.25])])
    file = write_shard(table.uri, "bridge", "run-1", 0, rows)
    content = pq.ParquetFile(Path(table.uri, file.hidden_path))
    assert content.schema_arrow == FILE_SCHEMA
    assert content.read().equals(rows.drop_columns([PARTITION_COLUMN]))
    chunk = content.metadata.row_group(0).column(0)
    assert chunk.compression == "ZSTD"
    assert chunk.statistics.max == "b.jpg"


def test_shard_file_says_what_the_log_needs(table: ReportTable) -> None:
    rows = build_rows([make_row("b.jpg"), make_row("a.jpg")])
    file = write_shard(table.uri, "bridge", "run-1", 0, rows)
    assert file.bytes == Path(table.uri, file.hidden_path).stat().st_size
    assert file.rows == 2
    assert file.partition == {"survey": "bridge"}
    stats = json.loads(file.stats)
    assert stats["numRecords"] == 2
    assert (stats["minValues"]["image"], stats["maxValues"]["image"]) == ("a.jpg", "b.jpg")
    assert stats["minValues"]["model_sha256"] == stats["maxValues"]["model_sha256"] == MODEL
    assert stats["nullCount"]["image"] == 0


@pytest.mark.parametrize("characters", [4_000, 5_000])
def test_bounds_of_endless_paths_stay_out_of_the_log(table: ReportTable, characters: int) -> None:
    file = write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_row("x" * characters)]))
    assert "image" not in json.loads(file.stats)["minValues"]
    assert len(file.stats) < 1000


def test_rows_may_come_without_the_survey_column(table: ReportTable) -> None:
    rows = build_rows([make_row()]).drop_columns([PARTITION_COLUMN])
    assert write_shard(table.uri, "bridge", "run-1", 0, rows).rows == 1


def test_two_attempts_at_a_shard_write_two_files(table: ReportTable) -> None:
    rows = build_rows([make_row()])
    first, second = (write_shard(table.uri, "bridge", "run-1", 0, rows) for _ in range(2))
    assert first.path != second.path
    assert len(names(Path(table.uri, "survey=bridge"))) == 2


def test_publishing_twice_is_harmless(table: ReportTable) -> None:
    file = write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_row()]))
    publish_shard(table.uri, file)
    publish_shard(table.uri, file)
    assert names(Path(table.uri, "survey=bridge")) == [file.path.split("/")[1]]


def test_publishing_a_file_that_vanished_fails_with_a_reason(table: ReportTable) -> None:
    file = write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_row()]))
    Path(table.uri, file.hidden_path).unlink()
    with pytest.raises(ReportWriteFailed, match="nodes share"):
        publish_shard(table.uri, file)


def test_a_file_uri_is_written_like_a_path(table: ReportTable) -> None:
    file = write_shard(Path(table.uri).as_uri(), "bridge", "run-1", 0, build_rows([make_row()]))
    assert Path(table.uri, file.hidden_path).exists()


@pytest.mark.parametrize(("survey", "run_id"), [("a/b", "run-1"), ("_x", "run-1"), ("bridge", "../run")])
def test_names_that_are_no_path_segment_are_refused(table: ReportTable, survey: str, run_id: str) -> None:
    rows = build_rows([make_row()]).drop_columns([PARTITION_COLUMN])
    with pytest.raises(UsageError):
        write_shard(table.uri, survey, run_id, 0, rows)
    assert names(Path(table.uri)) == ["_delta_log"]


@pytest.mark.parametrize(
    "rows",
    [
        build_rows([]),
        build_rows([make_row(survey="tunnel")]),
        build_rows([make_row()]).drop_columns(["camera"]),
        pa.table({"image": ["a.jpg"]}),
        build_rows([make_row()]).set_column(22, "verdict", pa.array([None], pa.string())),
    ],
    ids=["no rows", "another survey", "column missing", "another table", "null where none may be"],
)
def test_rows_that_do_not_belong_into_the_file_are_refused(table: ReportTable, rows: pa.Table) -> None:
    with pytest.raises(ValueError, match=r"rows|schema|survey|null"):
        write_shard(table.uri, "bridge", "run-1", 0, rows)
    assert names(Path(table.uri, "survey=bridge")) == []


def test_a_node_that_does_not_see_the_report_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ReportWriteFailed, match="Mount the same storage"):
        write_shard(str(tmp_path / "report"), "bridge", "run-1", 0, build_rows([make_row()]))
    assert names(tmp_path) == []


def test_full_disk_says_so_and_leaves_no_half_file(full_disk: Path) -> None:
    table = ReportTable.open_or_create(full_disk / "report")
    with pytest.raises(ReportWriteFailed, match="disk is full") as failure:
        write_shard(table.uri, "bridge", "run-1", 0, ROWS)
    assert "Free some space" in failure.value.remedy
    assert names(Path(table.uri, "survey=bridge")) == []


def test_full_disk_during_the_commit_loses_nothing(full_disk: Path) -> None:
    table = ReportTable.open_or_create(full_disk / "report")
    files = [write_shard(table.uri, "bridge", "run-1", n, build_rows([make_row(f"{n}.jpg")])) for n in (0, 1)]
    for file in files:
        publish_shard(table.uri, file)
    table.commit(files[:1], run_id="run-1")
    ballast = full_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    with pytest.raises(ReportWriteFailed):
        table.commit(files[1:], run_id="run-1")
    assert committed_rows(table).count_rows() == 1

    ballast.unlink()
    table.commit(files[1:], run_id="run-1")
    assert committed_rows(ReportTable.open(table.uri)).count_rows() == 2


def test_file_size_limit_is_reported_and_leaves_no_half_file(table: ReportTable, tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    code = """
import resource, signal, sys
import pyarrow.parquet as pq
from crackmodel.errors import ReportWriteFailed
from crackmodel.reports.schema import REPORT_SCHEMA
from crackmodel.reports.writing.shard_file import write_shard
rows = pq.read_table(sys.argv[2], schema=REPORT_SCHEMA)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_shard(sys.argv[1], "bridge", "run-1", 0, rows)
except ReportWriteFailed as failure:
    print(failure)
"""
    command = [sys.executable, "-c", code, table.uri, str(tmp_path / "rows.parquet")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "ulimit -f" in answer.stdout
    assert names(Path(table.uri, "survey=bridge")) == []


def test_read_only_storage_is_reported(full_disk: Path) -> None:
    table = ReportTable.open_or_create(full_disk / "report")
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    with pytest.raises(ReportWriteFailed, match="write access"):
        write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_row()]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_missing_permission_is_reported(table: ReportTable) -> None:
    Path(table.uri).chmod(0o500)
    try:
        with pytest.raises(ReportWriteFailed, match="permission"):
            write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_row()]))
    finally:
        Path(table.uri).chmod(0o700)


def test_a_file_in_the_way_of_the_folder_is_reported(table: ReportTable) -> None:
    Path(table.uri, "survey=bridge").write_text("in the way")
    with pytest.raises(ReportWriteFailed, match="could not be written"):
        write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_row()]))


def test_workers_import_neither_table_format_nor_database_nor_pandas() -> None:
    code = (
        "import sys, crackmodel.reports.writing.shard_file\n"
        "print(sorted({'deltalake', 'duckdb', 'pandas', 'pydantic', 'ray', 'tensorflow'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "[]"
