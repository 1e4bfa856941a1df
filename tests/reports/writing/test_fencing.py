"""Two runs of one survey where there is no lock: one wins, the other says so, and no row is there twice."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction
from pyarrow import fs

from crackmodel.errors import ReportBusy, ReportWriteFailed
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.reading.run_statistics import count_rows
from crackmodel.reports.schema import REPORT_SCHEMA
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store
from tests.reports.rows import KEY, NOON, build_rows, make_listing, make_row

LISTING = make_listing(*((f"{letter}.jpg", 1000, NOON) for letter in "abc"))


class OutOfStep(ReportTable):
    """Does something else right before its commit, when nothing can be looked up any more."""

    def _append(self, *args: object) -> None:
        self.meanwhile()
        super()._append(*args)  # type: ignore[arg-type]

    def meanwhile(self) -> None:
        """Nothing, unless a test wants something."""


class LosesAnswers(ReportTable):
    """A storage that takes the commit; then the network is gone, for the look at the log as well."""

    lost, appended = True, False

    def _append(self, *args: object) -> None:
        super()._append(*args)  # type: ignore[arg-type]
        self.appended = True
        raise OSError("connection reset")

    def _left_to_commit(self, *args: object) -> list[ShardFile]:
        if self.lost and self.appended:
            raise ReportWriteFailed("the log cannot be read", "run again")
        return super()._left_to_commit(*args)  # type: ignore[arg-type]


class WritesIdsOfRuns(ReportTable):
    """An older crackmodel, whose commits also carried the number of the commit under the run's name."""

    def _append(self, files: list[ShardFile], run_id: str) -> None:  # type: ignore[override]
        self.log.create_write_transaction(
            [AddAction(file.path, file.bytes, file.partition, 0, True, file.stats) for file in files],
            mode="append",
            schema=REPORT_SCHEMA,
            partition_by=["survey"],
            commit_properties=CommitProperties(
                custom_metadata={"run_id": run_id, "survey": "bridge"},
                app_transactions=[Transaction(run_id, 0), Transaction("survey:bridge", 0)],
            ),
        )


def without_lock(uri: str, kind: type[ReportTable] = ReportTable) -> ReportTable:
    """A report as in an object store."""
    return kind(Location(uri, store=Store(fs.LocalFileSystem(), uri, uri)), DeltaTable(uri))


def ask(table: ReportTable, survey: str = "bridge") -> pa.Table:
    table.begin(survey, "run-a")
    return pending(table, LISTING, replace(KEY, survey=survey))


def shard(table: ReportTable, image: str, run_id: str, survey: str = "bridge") -> list[ShardFile]:
    file = write_shard(
        table.uri, survey, run_id, 0, build_rows([make_row(image, run_id=run_id, survey=survey)])
    )
    publish_shard(table.uri, file)
    return [file]


def images(table: ReportTable) -> list[str]:
    """What a reader of the log sees, which must be what a reader of the folder sees."""
    plain = sorted(pd.read_parquet(table.uri)["image"])
    assert sorted(DeltaTable(table.uri).to_pandas()["image"]) == plain
    return plain


def test_later_of_two_runs_stops_and_names_the_other(table: ReportTable) -> None:
    first, second = without_lock(table.uri), without_lock(table.uri)
    ask(first)
    ask(second)
    first.commit(shard(first, "a.jpg", "run-a"), run_id="run-a")

    with pytest.raises(ReportBusy, match="another run, run-a") as busy:
        second.commit(shard(second, "a.jpg", "run-b"), run_id="run-b")

    assert "'bridge'" in busy.value.problem
    assert images(table) == ["a.jpg"]
    first.commit(shard(first, "b.jpg", "run-a"), run_id="run-a")
    again = without_lock(table.uri)
    assert ask(again)["image"].to_pylist() == ["c.jpg"]
    again.commit(shard(again, "c.jpg", "run-c"), run_id="run-c")
    assert images(table) == ["a.jpg", "b.jpg", "c.jpg"]


def test_run_that_was_overtaken_at_the_last_moment_stops_too(table: ReportTable) -> None:
    first, second = without_lock(table.uri), without_lock(table.uri, OutOfStep)
    ask(first)
    ask(second)
    late = shard(second, "a.jpg", "run-b")
    overtake = shard(first, "a.jpg", "run-a")
    second.meanwhile = lambda: first.commit(overtake, run_id="run-a")  # type: ignore[attr-defined]

    with pytest.raises(ReportBusy, match="run-a"):
        second.commit(late, run_id="run-b")

    assert images(table) == ["a.jpg"]


def test_runs_that_race_leave_one_winner(table: ReportTable) -> None:
    runs = {f"run-{number}": without_lock(table.uri) for number in range(4)}
    shards = {}
    for run_id, store in runs.items():
        ask(store)
        shards[run_id] = shard(store, "a.jpg", run_id)
    start, losers = threading.Barrier(4), []

    def commit(run_id: str) -> None:
        start.wait()
        try:
            runs[run_id].commit(shards[run_id], run_id=run_id)
        except ReportBusy as busy:
            losers.append(str(busy))

    threads = [threading.Thread(target=commit, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(losers) == 3
    assert images(table) == ["a.jpg"]


def test_runs_of_two_surveys_do_not_disturb_each_other(table: ReportTable) -> None:
    bridge, tunnel = without_lock(table.uri), without_lock(table.uri)
    ask(bridge)
    ask(tunnel, "tunnel")
    for number in range(2):
        bridge.commit(shard(bridge, f"{number}.jpg", "run-a"), run_id="run-a")
        tunnel.commit(shard(tunnel, f"{number}.jpg", "run-b", "tunnel"), run_id="run-b")

    assert images(table) == ["0.jpg", "0.jpg", "1.jpg", "1.jpg"]


def test_repeated_commit_of_a_run_is_no_other_run(table: ReportTable) -> None:
    store = without_lock(table.uri)
    ask(store)
    files = shard(store, "a.jpg", "run-a")
    store.commit(files, run_id="run-a")
    store.commit(files, run_id="run-a")
    store.commit(shard(store, "b.jpg", "run-a"), run_id="run-a")

    assert images(table) == ["a.jpg", "b.jpg"]


def test_commit_is_not_repeated_when_its_files_have_been_compacted(table: ReportTable) -> None:
    store = without_lock(table.uri)
    ask(store)
    first, second = shard(store, "a.jpg", "run-a"), shard(store, "b.jpg", "run-a")
    store.commit(first, run_id="run-a")
    store.commit(second, run_id="run-a")
    compact(ReportTable.open(table.uri), "bridge")
    store.commit(first, run_id="run-a")
    ReportTable.open(table.uri).commit(second, run_id="run-a")

    assert count_rows(ReportTable.open(table.uri), "run-a").rows == 2


def test_repeated_commit_with_further_files_adds_only_those(table: ReportTable) -> None:
    store = without_lock(table.uri, LosesAnswers)
    ask(store)
    first = shard(store, "a.jpg", "run-a")
    with pytest.raises(ReportWriteFailed):
        store.commit(first, run_id="run-a")
    store.lost = False  # type: ignore[attr-defined]
    store.commit(first + shard(store, "b.jpg", "run-a"), run_id="run-a")

    assert images(table) == ["a.jpg", "b.jpg"]
    assert DeltaTable(table.uri).version() == 2


def test_commit_that_arrives_late_and_its_repetition_are_one(table: ReportTable) -> None:
    """The store says nothing for a while, takes the commit then, and meanwhile it is made again."""
    store = without_lock(table.uri, OutOfStep)
    ask(store)
    files = shard(store, "a.jpg", "run-a")
    late = without_lock(table.uri)
    ask(late)
    store.meanwhile = lambda: late.commit(files, run_id="run-a")  # type: ignore[attr-defined]
    store.commit(files, run_id="run-a")
    store.meanwhile = lambda: None  # type: ignore[attr-defined]
    assert DeltaTable(table.uri).version() == 1
    store.commit(shard(store, "b.jpg", "run-a"), run_id="run-a")

    assert images(table) == ["a.jpg", "b.jpg"]


def test_runs_leave_no_ids_of_their_own_in_the_log(table: ReportTable) -> None:
    for number in range(30):
        store = ReportTable.open(table.uri)
        ask(store)
        store.commit(shard(store, f"{number}.jpg", f"run-{number:02}"), run_id=f"run-{number:02}")
    compact(store, "bridge")

    log = Path(table.uri, "_delta_log")
    actions = [json.loads(line) for commit in log.glob("*.json") for line in commit.read_text().splitlines()]
    ids = {action["txn"]["appId"] for action in actions if "txn" in action}
    kept = pd.read_parquet(max(log.glob("*.checkpoint.parquet")))["txn"].dropna()
    assert ids == {"survey:bridge", "compaction:bridge"}
    assert len(kept) == 1


def test_report_of_before_whose_log_has_ids_of_runs_goes_on(table: ReportTable) -> None:
    old, store = without_lock(table.uri, WritesIdsOfRuns), without_lock(table.uri)
    ask(old)
    ask(store)
    files = shard(old, "a.jpg", "run-a")
    old.commit(files, run_id="run-a")
    with pytest.raises(ReportBusy, match="run-a"):
        store.commit(shard(store, "a.jpg", "run-b"), run_id="run-b")
    ReportTable.open(table.uri).commit(files, run_id="run-a")
    assert DeltaTable(table.uri).version() == 1
    ask(store)
    store.commit(shard(store, "b.jpg", "run-b"), run_id="run-b")

    assert images(table) == ["a.jpg", "b.jpg"]


def test_lost_answer_is_no_other_run(table: ReportTable) -> None:
    store = without_lock(table.uri, LosesAnswers)
    ask(store)
    files = shard(store, "a.jpg", "run-a")
    with pytest.raises(ReportWriteFailed):
        store.commit(files, run_id="run-a")
    store.lost = False  # type: ignore[attr-defined]
    for _ in range(2):
        store.commit(files, run_id="run-a")
    store.commit(shard(store, "b.jpg", "run-a"), run_id="run-a")
    store.commit(shard(store, "c.jpg", "run-a"), run_id="run-a")

    assert images(table) == ["a.jpg", "b.jpg", "c.jpg"]


def test_failed_commit_keeps_its_files_while_in_doubt(table: ReportTable) -> None:
    store = without_lock(table.uri, OutOfStep)
    ask(store)
    (file,) = shard(store, "a.jpg", "run-a")

    def fail() -> None:
        raise OSError("connection reset")

    store.meanwhile = fail  # type: ignore[attr-defined]
    with pytest.raises(ReportWriteFailed):
        store.commit([file], run_id="run-a")
    assert Path(table.uri, file.path).exists()


def test_compaction_does_not_stop_a_run(table: ReportTable) -> None:
    store = without_lock(table.uri)
    ask(store)
    for number in range(2):
        store.commit(shard(store, f"{number}.jpg", "run-a"), run_id="run-a")
    DeltaTable(table.uri).optimize.compact()
    store.commit(shard(store, "2.jpg", "run-a"), run_id="run-a")

    assert count_rows(ReportTable.open(table.uri), "run-a").rows == 3
