from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.errors import ReportError, ReportWriteFailed
from crackmodel.reports.maintenance.orphan_files import delete_orphans
from crackmodel.reports.reading.dataset import committed_rows
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.reading.run_statistics import count_rows
from crackmodel.reports.schema import REPORT_SCHEMA
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store
from tests.reports.conftest import Commit
from tests.reports.rows import KEY, NOON, build_rows, make_listing, make_rejected, make_row

DEAD = "20260101T000000Z-00dead"

COMMIT_TEN = """
import sys
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
sys.path.insert(0, sys.argv[3])
from rows import build_rows, make_row
uri, run = sys.argv[1:3]
sys.stdin.readline()
table = ReportTable.open_or_create(uri)
for n in range(10):
    rows = build_rows([make_row(f"{n}-{i}.jpg", run_id=run) for i in range(3)])
    file = write_shard(uri, "bridge", run, n, rows)
    publish_shard(uri, file)
    table.commit([file], run_id=run)
"""


def images(table: ReportTable) -> list[str]:
    return sorted(committed_rows(table).to_table(columns=["image"])["image"].to_pylist())


def published(table: ReportTable, *names: str, run_id: str = "run-1") -> list[ShardFile]:
    files = []
    for number, name in enumerate(names):
        rows = build_rows([make_row(name, run_id=run_id)])
        files.append(write_shard(table.uri, "bridge", run_id, number, rows))
        publish_shard(table.uri, files[-1])
    return files


# Committing


def test_rows_exist_exactly_when_their_shard_was_committed(table: ReportTable) -> None:
    files = published(table, "a.jpg", "b.jpg")
    assert images(ReportTable.open(table.uri)) == []
    table.commit(files[:1], run_id="run-1")
    assert images(ReportTable.open(table.uri)) == ["a.jpg"]


def test_committed_rows_come_back_exactly(table: ReportTable, commit: Commit) -> None:
    rows = [
        make_row("ä 1%20.jpg", tile_probabilities=[0.1, 0.25], crack_probability=0.1, latitude=51.5),
        make_rejected("x.jpg"),
    ]
    commit(rows)
    commit([make_row("t.jpg", survey="tunnel")])
    read = committed_rows(ReportTable.open(table.uri), "bridge").to_table()
    assert read.schema == REPORT_SCHEMA
    assert read.equals(build_rows(rows))


def test_several_shards_are_one_commit(table: ReportTable) -> None:
    table.commit(published(table, "a.jpg", "b.jpg", "c.jpg"), run_id="run-1")
    assert ReportTable.open(table.uri).version == 1
    assert images(table) == []  # this object shows what it knew
    assert images(ReportTable.open(table.uri)) == ["a.jpg", "b.jpg", "c.jpg"]


def test_no_files_are_no_commit(table: ReportTable) -> None:
    table.commit([], run_id="run-1")
    assert ReportTable.open(table.uri).version == 0


def test_a_commit_made_twice_counts_once(table: ReportTable) -> None:
    files = published(table, "a.jpg")
    table.commit(files, run_id="run-1")
    table.commit(files, run_id="run-1")
    ReportTable.open(table.uri).commit(files, run_id="run-1")
    assert images(ReportTable.open(table.uri)) == ["a.jpg"]


def test_repeating_a_commit_after_compaction_is_harmless(table: ReportTable) -> None:
    files = published(table, "a.jpg", "b.jpg")
    table.commit(files[:1], run_id="run-1")
    table.commit(files[1:], run_id="run-1")
    DeltaTable(table.uri).optimize.compact()
    table.commit(files[:1], run_id="run-1")
    assert images(ReportTable.open(table.uri)) == ["a.jpg", "b.jpg"]


class LosesTheAnswer(ReportTable):
    """A storage that takes the commit, and then the network fails."""

    def _append(self, *args: object) -> None:
        super()._append(*args)  # type: ignore[arg-type]
        raise OSError("connection reset")


class TakesNothing(ReportTable):
    def _append(self, *args: object) -> None:
        raise OSError("connection reset")


def test_commit_whose_answer_got_lost_is_looked_up(table: ReportTable) -> None:
    LosesTheAnswer.open(table.uri).commit(published(table, "a.jpg"), run_id="run-1")
    assert images(ReportTable.open(table.uri)) == ["a.jpg"]


def test_commit_that_did_not_happen_is_raised(table: ReportTable) -> None:
    files = published(table, "a.jpg")
    with pytest.raises(ReportWriteFailed, match="connection reset"):
        TakesNothing.open(table.uri).commit(files, run_id="run-1")
    table.commit(files, run_id="run-1")
    assert images(ReportTable.open(table.uri)) == ["a.jpg"]


def test_two_processes_create_and_commit_at_the_same_time(tmp_path: Path) -> None:
    uri, here = str(tmp_path / "report"), str(Path(__file__).parent)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", COMMIT_TEN, uri, run, here], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for run in ("run-1", "run-2")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    errors = [writer.communicate(timeout=120)[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    table = ReportTable.open(uri)
    assert committed_rows(table).count_rows() == 60
    assert [count_rows(table, run).rows for run in ("run-1", "run-2")] == [30, 30]
    assert len(images(table)) == 60
    assert table.version == 20


# Reading


def test_a_stranger_reads_the_folder_and_counts_every_row_once(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg"), make_row("b.jpg")])
    commit([make_row("a.jpg", survey="tunnel")])
    write_shard(table.uri, "bridge", "run-2", 0, build_rows([make_row("unfinished.jpg")]))
    with table.lock("bridge", "run-2"):
        assert len(pd.read_parquet(table.uri)) == 3
        assert ds.dataset(table.uri, partitioning="hive").count_rows() == 3
        assert set(pd.read_parquet(table.uri)["survey"]) == {"bridge", "tunnel"}
        assert len(DeltaTable(table.uri).to_pandas()) == 3


def test_vacuum_touches_neither_rows_nor_locks(table: ReportTable, commit: Commit) -> None:
    commit([make_row("a.jpg")])
    with table.lock("bridge"):
        DeltaTable(table.uri).vacuum(
            retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
        )
        assert Path(table.uri, "_locks", "bridge.lock").exists()
    assert images(ReportTable.open(table.uri)) == ["a.jpg"]


def test_files_of_other_runs_are_not_opened_and_other_models_do_not_count(
    table: ReportTable, commit: Commit
) -> None:
    other = commit([make_row("a.jpg", run_id="run-1", model_sha256="b" * 64)])
    commit([make_row("b.jpg", run_id="run-2")])
    listing = make_listing(("a.jpg", 1000, NOON), ("b.jpg", 1000, NOON))
    left = pending(table, listing, KEY)
    assert left["image"].to_pylist() == ["a.jpg"]
    Path(table.uri, other.path).unlink()
    assert count_rows(table, "run-2").rows == 1


def test_a_deleted_file_is_an_error_not_a_smaller_report(table: ReportTable, commit: Commit) -> None:
    file = commit([make_row("a.jpg")])
    Path(table.uri, file.path).unlink()
    with pytest.raises(ReportError, match="restore them") as failure:
        count_rows(table, "run-1")
    assert table.uri in failure.value.problem


def test_a_report_deleted_under_a_run_is_a_write_failure(table: ReportTable) -> None:
    files = published(table, "a.jpg")
    for entry in Path(table.uri, "_delta_log").iterdir():
        entry.unlink()
    with pytest.raises(ReportWriteFailed):
        table.commit(files, run_id="run-1")


def test_hundreds_of_commits_leave_checkpoints(table: ReportTable) -> None:
    files = published(table, *(f"{n}.jpg" for n in range(45)))
    for file in files:
        table.commit([file], run_id="run-1")
    checkpoints = list(Path(table.uri, "_delta_log").glob("*.checkpoint.parquet"))
    assert len(checkpoints) == 2
    assert len(images(ReportTable.open(table.uri))) == 45


# Orphans


def test_orphans_of_dead_runs_go_and_everything_else_stays(table: ReportTable, commit: Commit) -> None:
    kept = commit([make_row("a.jpg")])
    other = write_shard(table.uri, "tunnel", DEAD, 0, build_rows([make_row(survey="tunnel")]))
    write_shard(table.uri, "bridge", DEAD, 0, build_rows([make_row("hidden.jpg")]))
    (lost,) = published(table, "published.jpg", run_id=DEAD)
    folder = Path(table.uri, "survey=bridge")
    assert "published.jpg" in set(pd.read_parquet(table.uri)["image"])
    (folder / "notes.txt").write_text("mine")

    assert delete_orphans(table, "bridge") == 2
    assert {path.name for path in folder.iterdir()} == {kept.path.split("/")[1], "notes.txt"}
    assert not Path(table.uri, lost.path).exists()
    assert Path(table.uri, other.hidden_path).exists()
    assert images(ReportTable.open(table.uri)) == ["a.jpg"]
    assert delete_orphans(table, "bridge") == 0


@pytest.mark.parametrize(
    "name",
    [
        "part-00001-5c0c4f2e-8b7d-4f0e-9a36-0c2b8f6f9a11-c000.snappy.parquet",
        "part-0.parquet",
        "part-my-notes.txt",
        ".part-of-the-bridge",
        f"part-{DEAD}-000000-00000000.parquet.crc",
        f"part-{DEAD}-000000.parquet",
        f"copy-of-part-{DEAD}-000000-00000000.parquet",
        "part-dead-000000-00000000.parquet",
    ],
)
def test_what_no_run_wrote_is_no_orphan(table: ReportTable, name: str) -> None:
    folder = Path(table.uri, "survey=bridge")
    folder.mkdir()
    (folder / name).write_bytes(b"mine")
    (folder / f"part-{DEAD}-000000-00000000.parquet").write_bytes(b"a run's")
    assert delete_orphans(table, "bridge") == 1
    assert [path.name for path in folder.iterdir()] == [name]


def test_orphans_of_long_runs_go_too(table: ReportTable) -> None:
    file = write_shard(table.uri, "bridge", DEAD, 1_234_567, build_rows([make_row()]))
    assert delete_orphans(table, "bridge") == 1
    assert not Path(table.uri, file.hidden_path).exists()


def test_survey_without_a_folder_has_no_orphans(table: ReportTable) -> None:
    assert delete_orphans(table, "bridge") == 0


def test_files_that_another_writer_committed_meanwhile_are_no_orphans(table: ReportTable) -> None:
    files = published(table, "a.jpg")
    ReportTable.open(table.uri).commit(files, run_id="run-1")
    assert delete_orphans(table, "bridge") == 0


def test_files_that_compaction_replaced_stay_until_vacuum(table: ReportTable, commit: Commit) -> None:
    files = [commit([make_row(name)]) for name in ("a.jpg", "b.jpg")]
    DeltaTable(table.uri).optimize.compact()
    assert delete_orphans(table, "bridge") == 0
    assert all(Path(table.uri, file.path).exists() for file in files)
    assert DeltaTable(table.uri, version=1).to_pyarrow_table().num_rows == 1
    assert images(ReportTable.open(table.uri)) == ["a.jpg", "b.jpg"]


def test_without_a_lock_only_old_files_are_orphans(table: ReportTable) -> None:
    lost, young = published(table, "lost.jpg", "young.jpg", run_id=DEAD)
    two_days_ago = time.time() - timedelta(days=2).total_seconds()
    os.utime(Path(table.uri, lost.path), (two_days_ago, two_days_ago))
    store = ReportTable(
        Location(table.uri, store=Store(fs.LocalFileSystem(), table.uri, table.uri)), DeltaTable(table.uri)
    )
    with store.lock("bridge"):
        assert delete_orphans(store, "bridge") == 1
    assert not Path(table.uri, "_locks").exists()
    assert Path(table.uri, young.path).exists()
