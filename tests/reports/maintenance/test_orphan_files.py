"""What a dead run published where there is no lock goes with the next run, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.errors import ReportBusy
from crackmodel.reports.maintenance import compaction, orphan_files
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.maintenance.orphan_files import delete_orphans, sweep
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store
from tests.reports.rows import build_rows, make_row

DEAD, NEXT, OTHER = (f"20261123T06395{number}Z-b4b2c{number}" for number in range(3))


def without_lock(table: ReportTable) -> ReportTable:
    """The report as in an object store, opened once more; a run of its own has asked what is left."""
    store = ReportTable(
        Location(table.uri, store=Store(fs.LocalFileSystem(), table.uri, table.uri)), DeltaTable(table.uri)
    )
    store.begin("bridge", "run-a")
    return store


def written(table: ReportTable, image: str, run_id: str) -> ShardFile:
    return write_shard(table.uri, "bridge", run_id, 0, build_rows([make_row(image, run_id=run_id)]))


def published(table: ReportTable, image: str, run_id: str) -> list[ShardFile]:
    file = written(table, image, run_id)
    publish_shard(table.uri, file)
    return [file]


def plain(table: ReportTable) -> list[str]:
    """What a reader of the folder counts."""
    return sorted(pd.read_parquet(table.uri)["image"])


def sound(table: ReportTable) -> list[str]:
    """What readers of the folder and of the log agree on, in a report that the check finds nothing in."""
    checked = check_report(ReportTable.open(table.uri))
    assert (checked.findings, checked.uncommitted) == ((), 0)
    assert sorted(DeltaTable(table.uri).to_pandas()["image"]) == plain(table)
    return plain(table)


def test_what_a_dead_run_published_goes_with_the_next_run(table: ReportTable) -> None:
    published(table, "a.jpg", DEAD)
    hidden = written(table, "b.jpg", DEAD)
    store = without_lock(table)
    assert (check_report(store).findings, check_report(store).uncommitted) == ((), 1)
    store.commit(published(store, "a.jpg", NEXT), run_id=NEXT)
    assert plain(table) == ["a.jpg", "a.jpg"]

    assert sweep(store, "bridge", NEXT) == 1

    assert sound(table) == ["a.jpg"]
    assert Path(table.uri, hidden.hidden_path).exists()  # nobody counts its rows; a day later it goes too
    version = ReportTable.open(table.uri).version
    assert sweep(store, "bridge", NEXT) == 0
    assert ReportTable.open(table.uri).version == version
    store.commit(published(store, "b.jpg", NEXT), run_id=NEXT)
    assert sound(table) == ["a.jpg", "b.jpg"]


def test_it_goes_with_a_run_that_has_nothing_to_score(table: ReportTable) -> None:
    first = without_lock(table)
    first.commit(published(first, "a.jpg", OTHER), run_id=OTHER)
    published(table, "a.jpg", DEAD)

    assert sweep(without_lock(table), "bridge", NEXT) == 1
    assert sound(table) == ["a.jpg"]


def test_whose_files_are_gone_cannot_commit_them(table: ReportTable) -> None:
    living, store = without_lock(table), without_lock(table)
    files = published(living, "a.jpg", OTHER)
    assert sweep(store, "bridge", NEXT) == 1

    with pytest.raises(ReportBusy, match=NEXT):
        living.commit(files, run_id=OTHER)

    assert DeltaTable(table.uri).to_pandas().empty
    again = without_lock(table)
    again.commit(published(again, "a.jpg", OTHER), run_id=OTHER)
    assert sound(table) == ["a.jpg"]


def test_files_that_are_committed_meanwhile_stay(table: ReportTable, monkeypatch: pytest.MonkeyPatch) -> None:
    living, store = without_lock(table), without_lock(table)
    published(table, "a.jpg", DEAD)
    files = published(living, "a.jpg", OTHER)
    commit_actions = orphan_files.commit_actions

    def meanwhile(*arguments: Any) -> None:
        living.commit(files, run_id=OTHER)
        commit_actions(*arguments)

    monkeypatch.setattr(orphan_files, "commit_actions", meanwhile)
    assert sweep(store, "bridge", NEXT) == 0
    monkeypatch.undo()

    assert DeltaTable(table.uri).to_pandas()["image"].tolist() == ["a.jpg"]
    assert sweep(store, "bridge", NEXT) == 0  # it is the other run's
    assert sweep(living, "bridge", OTHER) == 1
    assert sound(table) == ["a.jpg"]


@pytest.mark.parametrize("commits_first", [False, True])
def test_a_compaction_that_is_going_on_loses_no_row(
    table: ReportTable, monkeypatch: pytest.MonkeyPatch, commits_first: bool
) -> None:
    """Its file is published and not committed, like an orphan, and no run's number keeps it from that."""
    store = without_lock(table)
    for image in ("a.jpg", "b.jpg"):
        store.commit(published(store, image, NEXT), run_id=NEXT)
    compacting = without_lock(table)
    replace, commit_actions = compaction._replace, orphan_files.commit_actions
    swept: list[int] = []

    def sweep_first(*arguments: object) -> None:
        swept.append(sweep(store, "bridge", NEXT))
        replace(*arguments)  # type: ignore[arg-type]

    def compact_first(*arguments: Any) -> None:
        monkeypatch.undo()
        compact(compacting, "bridge")
        commit_actions(*arguments)

    if commits_first:
        monkeypatch.setattr(orphan_files, "commit_actions", compact_first)
        published(table, "a.jpg", DEAD)
        assert sweep(store, "bridge", NEXT) == 0
        assert sweep(without_lock(table), "bridge", OTHER) == 1
    else:
        monkeypatch.setattr(compaction, "_replace", sweep_first)
        with pytest.raises(ReportBusy):
            compact(compacting, "bridge")
        assert swept == [1]

    assert sound(table) == ["a.jpg", "b.jpg"]
    monkeypatch.undo()
    compact(without_lock(table), "bridge")
    assert sound(table) == ["a.jpg", "b.jpg"]


def test_replaced_files_and_other_surveys_are_not_swept(table: ReportTable) -> None:
    store = without_lock(table)
    for image in ("a.jpg", "b.jpg"):
        store.commit(published(store, image, NEXT), run_id=NEXT)
    compact(store, "bridge", keep_hours=1)
    rows = build_rows([make_row("t.jpg", survey="tunnel", run_id=DEAD)])
    publish_shard(table.uri, write_shard(table.uri, "tunnel", DEAD, 0, rows))
    version = ReportTable.open(table.uri).version

    assert sweep(store, "bridge", NEXT) == 0
    assert ReportTable.open(table.uri).version == version
    assert plain(table) == ["a.jpg", "a.jpg", "b.jpg", "b.jpg", "t.jpg"]


def test_nothing_is_swept_by_who_has_not_asked_for_the_survey(table: ReportTable) -> None:
    published(table, "a.jpg", DEAD)
    stranger = ReportTable(
        Location(table.uri, store=Store(fs.LocalFileSystem(), table.uri, table.uri)), DeltaTable(table.uri)
    )
    assert sweep(stranger, "bridge", NEXT) == 0
    assert plain(table) == ["a.jpg"]


def test_a_lock_is_enough_on_a_disk(table: ReportTable) -> None:
    published(table, "a.jpg", DEAD)
    table.begin("bridge", NEXT)
    assert sweep(table, "bridge", NEXT) == 0
    assert delete_orphans(table, "bridge") == 1
