"""Compacting changes how many files there are, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from crackmodel.errors import ReportBusy, ReportDamaged
from crackmodel.reports.maintenance import compaction
from crackmodel.reports.maintenance.compaction import compact, delete_replaced, small_files
from crackmodel.reports.maintenance.orphan_files import delete_orphans
from crackmodel.reports.reading.dataset import committed_files, committed_rows
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.reading.query import open_report
from crackmodel.reports.reading.run_statistics import count_rows, top_images, unfamiliar_images
from crackmodel.reports.schema import FILE_SCHEMA, REPORT_SCHEMA
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from tests.reports.conftest import Commit
from tests.reports.rows import KEY, NOON, build_rows, make_listing, make_rejected, make_row

LISTING = make_listing(("a.jpg", 1000, NOON), ("bad.jpg", 1000, NOON), ("new.jpg", 1000, NOON))
OTHER_MODEL = "b" * 64


@pytest.fixture
def mixed(table: ReportTable, commit: Commit) -> ReportTable:
    """A report of two surveys; one has files of two runs, models and tilings."""
    commit([make_row("a.jpg", tile_probabilities=[0.1, 0.9], crack_probability=0.9, verdict="crack")])
    commit([make_row("b.jpg", latitude=51.5, captured_at=NOON), make_rejected("bad.jpg", "vanished")])
    commit([make_row("a.jpg", run_id="run-2", model_sha256=OTHER_MODEL)])
    commit([make_row("a.jpg", run_id="run-2", preprocess="other")])
    commit([make_row("a.jpg", survey="tunnel")])
    return table


def names(table: ReportTable, survey: str = "bridge") -> set[str]:
    return {path.name for path in Path(table.uri, f"survey={survey}").iterdir()}


def answers(table: ReportTable) -> list[object]:
    scorings = [{}, {"model_sha256": OTHER_MODEL}, {"preprocess": "other"}]
    left = [pending(table, LISTING, replace(KEY, **change))["image"].to_pylist() for change in scorings]
    asked = (
        [count_rows(table, run), top_images(table, run), unfamiliar_images(table, run)]
        for run in ("run-1", "run-2")
    )
    with open_report(table.uri) as report:
        rows = report.sql("from report order by survey, image, run_id, model_sha256, preprocess")
    return [left, *asked, rows]


def test_answers_and_schema_stay_the_same_for_everybody(mixed: ReportTable) -> None:
    before, plain = answers(mixed), len(pd.read_parquet(mixed.uri))

    done = compact(mixed, "bridge")

    assert (done.files_before, done.files_after, done.deleted) == (4, 1, 4)
    assert answers(mixed) == before
    assert before[0] == [["bad.jpg", "new.jpg"], ["bad.jpg", "new.jpg"], ["bad.jpg", "new.jpg"]]
    assert len(pd.read_parquet(mixed.uri)) == plain == len(DeltaTable(mixed.uri).to_pandas()) == 6
    (name,) = names(mixed)
    written = pq.ParquetFile(Path(mixed.uri, "survey=bridge", name))
    assert written.schema_arrow == FILE_SCHEMA
    assert written.metadata.row_group(0).column(0).compression == "ZSTD"
    assert committed_rows(ReportTable.open(mixed.uri)).to_table().schema == REPORT_SCHEMA


def test_other_surveys_are_left_alone(mixed: ReportTable) -> None:
    before = names(mixed, "tunnel")
    compact(mixed, "bridge")
    assert names(mixed, "tunnel") == before


def test_compacting_again_does_nothing(mixed: ReportTable) -> None:
    compact(mixed, "bridge")
    version, file = mixed.version, names(mixed)

    again = compact(mixed, "bridge")

    assert (again.files_before, again.files_after, again.deleted) == (1, 1, 0)
    assert (ReportTable.open(mixed.uri).version, names(mixed)) == (version, file)


def test_compacted_file_is_no_orphan_and_keeps_other_runs_unread(mixed: ReportTable, commit: Commit) -> None:
    compact(mixed, "bridge")
    assert delete_orphans(mixed, "bridge") == 0
    assert count_rows(mixed, "run-2", "bridge").rows == 2
    (file,) = committed_files(DeltaTable(mixed.uri), "tunnel")
    assert file.constants == ("tunnel", "m@1", KEY.model_sha256, KEY.preprocess, "run-1")


def test_files_of_one_run_keep_it_in_the_log(table: ReportTable, commit: Commit) -> None:
    for name in ("a.jpg", "b.jpg"):
        commit([make_row(name)])
    compact(table, "bridge")
    (file,) = committed_files(DeltaTable(table.uri))
    assert (file.rows, file.constants) == (2, ("bridge", "m@1", KEY.model_sha256, KEY.preprocess, "run-1"))


def test_target_size_bounds_what_is_put_together(table: ReportTable, commit: Commit) -> None:
    sizes = [commit([make_row(f"{number}.jpg")]).bytes for number in range(6)]
    done = compact(table, "bridge", target_bytes=max(sizes) * 5 // 2)
    assert done.files_after == 3
    assert not small_files(table, "bridge", max(sizes))
    assert count_rows(ReportTable.open(table.uri), "run-1").rows == 6


def test_kept_files_let_people_travel_in_time_until_the_next_compaction(mixed: ReportTable) -> None:
    done = compact(mixed, "bridge", keep_hours=1)
    assert done.deleted == 0
    assert len(names(mixed)) == 5
    assert DeltaTable(mixed.uri, version=2).to_pyarrow_table().num_rows == 3
    assert delete_orphans(mixed, "bridge") == 0

    assert delete_replaced(mixed, keep_hours=1) == 0
    assert delete_replaced(mixed) == 4
    assert delete_replaced(mixed) == 0
    assert len(pd.read_parquet(mixed.uri)) == 6


class Killed(BaseException):
    """What no code catches."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@pytest.mark.parametrize("step", ["publish_shard", "_replace", "delete_replaced"])
def test_killed_compaction_leaves_nothing_behind(
    mixed: ReportTable, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = answers(mixed)
    with monkeypatch.context() as patch:
        patch.setattr(compaction, step, killed)
        with pytest.raises(Killed):
            compact(ReportTable.open(mixed.uri), "bridge")
    foreign = Path(mixed.uri, "survey=bridge", "part-00001-another-program.parquet")
    foreign.write_bytes(b"mine")

    rest = delete_orphans(mixed, "bridge") + delete_replaced(mixed)

    assert rest == (4 if step == "delete_replaced" else 1)
    foreign.unlink()
    assert len(pd.read_parquet(mixed.uri)) == 6
    assert answers(mixed) == before


def test_two_compactions_at_once_are_one(mixed: ReportTable, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(mixed)
    write, others = compaction.write_file, [ReportTable.open(mixed.uri)]

    def write_slowly(*arguments: Any) -> ShardFile:
        file = write(*arguments)
        if others:
            compact(others.pop(), "bridge", keep_hours=1)
        return file

    monkeypatch.setattr(compaction, "write_file", write_slowly)
    with pytest.raises(ReportBusy, match="compacted by another process"):
        compact(mixed, "bridge")

    assert answers(mixed) == before
    delete_replaced(mixed)
    assert len(pd.read_parquet(mixed.uri)) == 6


def test_run_that_commits_during_a_compaction_loses_nothing(
    mixed: ReportTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ReportTable.open(mixed.uri)
    run.begin("bridge", "run-3")
    write = compaction.write_file

    def commit(number: int) -> None:
        rows = build_rows([make_row(f"{number}.jpg", run_id="run-3")])
        file = write_shard(run.uri, "bridge", "run-3", number, rows)
        publish_shard(run.uri, file)
        run.commit([file], run_id="run-3")

    def write_slowly(*arguments: Any) -> ShardFile:
        file = write(*arguments)
        commit(0)
        return file

    monkeypatch.setattr(compaction, "write_file", write_slowly)
    done = compact(mixed, "bridge")
    commit(1)

    assert done.files_after == 2
    assert count_rows(run, "run-3").rows == 2
    assert len(pd.read_parquet(mixed.uri)) == 8


def test_damage_is_not_compacted_away(table: ReportTable, commit: Commit) -> None:
    files = [commit([make_row(name)]) for name in ("a.jpg", "b.jpg")]
    flip(Path(table.uri, files[1].path), 100)
    with pytest.raises(ReportDamaged, match="changed since it was written") as damage:
        compact(table, "bridge")
    assert files[1].path in damage.value.problem
    assert len(names(table)) == 2


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_compaction_whose_answer_is_lost_keeps_its_file(
    mixed: ReportTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answers(mixed)
    really = compaction.commit_actions

    def lose_the_answer(*arguments: Any) -> None:
        really(*arguments)
        raise CommitFailedError("there is such a version already: that of the first attempt")

    monkeypatch.setattr(compaction, "commit_actions", lose_the_answer)
    assert compact(mixed, "bridge").files_after < 5

    delete_replaced(ReportTable.open(mixed.uri))
    assert answers(ReportTable.open(mixed.uri)) == before
