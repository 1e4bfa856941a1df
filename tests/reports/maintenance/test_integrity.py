"""A check finds what is wrong, whatever it is, and finds nothing where nothing is."""

from __future__ import annotations

import fcntl
import os
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import fs

from crackmodel.errors import ReportDamaged
from crackmodel.reports.maintenance.compaction import compact, delete_replaced
from crackmodel.reports.maintenance.integrity import Check, Finding, check_report
from crackmodel.reports.maintenance.orphan_files import delete_orphans
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.schema import FILE_SCHEMA
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from crackmodel.storage.location import Location
from crackmodel.storage.object_stores import Store
from tests.reports.conftest import Commit
from tests.reports.rows import KEY, NOON, build_rows, make_listing, make_rejected, make_row

DEAD = "20260101T000000Z-00dead"


@pytest.fixture
def file(table: ReportTable, commit: Commit) -> ShardFile:
    """The second of two files of one survey; there is another survey too."""
    commit([make_row("a.jpg")])
    commit([make_row("t.jpg", survey="tunnel")])
    return commit([make_row("b.jpg"), make_rejected("c.jpg")])


def check(table: ReportTable) -> Check:
    return check_report(ReportTable.open(table.uri))


def publish(table: ReportTable) -> ShardFile:
    """A file that a run is about to commit, or has left behind."""
    file = write_shard(table.uri, "bridge", DEAD, 0, build_rows([make_row("x.jpg", run_id=DEAD)]))
    publish_shard(table.uri, file)
    return file


def age(table: ReportTable, file: ShardFile) -> None:
    two_hours_ago = time.time() - timedelta(hours=2).total_seconds()
    os.utime(Path(table.uri, file.path), (two_hours_ago, two_hours_ago))


def contents(table: ReportTable) -> dict[Path, tuple[int, bytes]]:
    """Every file and folder of a report: when it was changed last, and what is in it."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [Path(table.uri), *Path(table.uri).rglob("*")]
    }


def only(checked: Check) -> Finding:
    (finding,) = checked.findings
    with pytest.raises(ReportDamaged, match="1 thing is wrong"):
        checked.require_sound()
    return finding


def test_whole_report_is_sound(table: ReportTable, file: ShardFile) -> None:
    checked = check(table)

    assert checked.findings == ()
    checked.require_sound()
    assert (checked.files, checked.rows, checked.without_hash, checked.replaced) == (3, 4, 0, 0)
    assert checked.bytes == sum(path.stat().st_size for path in Path(table.uri).glob("survey=*/*"))


def test_empty_report_is_sound(table: ReportTable) -> None:
    assert check(table).findings == ()


@pytest.mark.parametrize("place", [0, 5, 100, 0.2, 0.4, 0.6, 0.8, -300, -5, -1])
def test_any_flipped_bit_is_found(table: ReportTable, file: ShardFile, place: float) -> None:
    path = Path(table.uri, file.path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)

    finding = only(check(table))
    assert (finding.kind, finding.path) == ("hash", file.path)


def test_compaction_keeps_flipped_bits_findable(table: ReportTable, file: ShardFile) -> None:
    compact(table, "bridge")
    assert check(table).findings == ()
    (path,) = Path(table.uri, "survey=bridge").iterdir()
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)

    assert only(check(table)).kind == "hash"


def test_missing_file_can_be_forgotten_and_scored_again_as_the_check_says(
    table: ReportTable, file: ShardFile
) -> None:
    Path(table.uri, file.path).unlink()

    finding = only(check(table))
    assert (finding.kind, finding.path) == ("missing", file.path)
    assert f"DeltaTable('{table.uri}').repair()" in finding.remedy
    DeltaTable(table.uri).repair()
    assert check(table).findings == ()
    listing = make_listing(*((f"{letter}.jpg", 1000, NOON) for letter in "abc"))
    left = pending(table, listing, KEY)
    assert left["image"].to_pylist() == ["b.jpg", "c.jpg"]


def test_truncated_file_is_found(table: ReportTable, file: ShardFile) -> None:
    os.truncate(Path(table.uri, file.path), 1000)

    finding = only(check(table))
    assert (finding.kind, finding.path) == ("size", file.path)
    assert "1,000 bytes" in finding.problem


def test_file_of_another_program_is_decoded_for_want_of_a_hash(table: ReportTable, file: ShardFile) -> None:
    write_deltalake(table.uri, build_rows([make_row("d.jpg", run_id="run-2")]), mode="append")
    checked = check(table)
    assert (checked.findings, checked.without_hash) == ((), 1)

    named = [path for path in DeltaTable(table.uri).file_uris() if "run-1" not in path]
    content = bytearray(Path(named[0]).read_bytes())
    content[4:400] = bytes(396)
    Path(named[0]).write_bytes(content)
    assert only(check(table)).kind == "unreadable"


def replace(table: ReportTable, file: ShardFile, rows: object, **options: object) -> None:
    """Commit a file that differs from what the log will say of it."""
    path = Path(table.uri, file.path)
    size = path.stat().st_size
    name = path.with_name("part-00000-somebody.parquet")
    path.unlink()
    pq.write_table(rows, name, **options)
    for entry in Path(table.uri, "_delta_log").glob("*.json"):
        text = entry.read_text().replace(path.name, name.name)
        entry.write_text(text.replace(f'"size":{size},', f'"size":{name.stat().st_size},'))


@pytest.mark.parametrize(("kept", "kind"), [(FILE_SCHEMA.names, "rows"), (FILE_SCHEMA.names[:20], "schema")])
def test_other_rows_or_columns_than_the_log_says_are_found(
    table: ReportTable, commit: Commit, kept: list[str], kind: str
) -> None:
    file = commit([make_row("a.jpg"), make_row("b.jpg")])
    replace(table, file, build_rows([make_row("a.jpg")]).select(kept))

    finding = check(table).findings[0]
    assert finding.kind == kind
    assert ("engine" if kind == "schema" else "1 rows, and the log says 2") in finding.problem


def test_rows_that_are_there_twice_are_found(table: ReportTable, file: ShardFile, commit: Commit) -> None:
    commit([make_row("a.jpg", run_id="run-2")])
    assert check(table).findings == ()
    commit([make_row("b.jpg"), make_row("x.jpg", run_id="run-3"), make_row("x.jpg", run_id="run-3")])

    first, second = check(table).findings
    assert (first.kind, first.path) == ("duplicates", "survey=bridge")
    assert "Run run-1 has several rows for 1 images of bridge, such as b.jpg" in first.problem
    assert "Run run-3" in second.problem


def test_orphans_are_found_and_replaced_files_are_none(table: ReportTable, file: ShardFile) -> None:
    compact(table, "bridge", keep_hours=1)
    assert (check(table).findings, check(table).replaced) == ((), 2)
    lost = write_shard(table.uri, "bridge", DEAD, 0, build_rows([make_row("x.jpg", run_id=DEAD)]))
    assert check(table).findings == ()  # hidden from everybody
    publish_shard(table.uri, lost)
    age(table, lost)
    stray = Path(table.uri, "copy.parquet")
    stray.write_bytes(b"mine")

    mine, dead = check(table).findings
    assert (mine.kind, mine.path) == ("orphan", "copy.parquet")
    assert "Move it" in mine.remedy
    assert (dead.kind, dead.path) == ("orphan", lost.path)
    assert "Score this survey again" in dead.remedy
    stray.unlink()
    delete_orphans(table, "bridge")
    delete_replaced(table)
    checked = check(table)
    assert (checked.findings, checked.replaced) == ((), 0)
    assert len(pd.read_parquet(table.uri)) == checked.rows


@pytest.mark.parametrize("local", [True, False])
def test_only_old_files_are_orphans(table: ReportTable, file: ShardFile, local: bool) -> None:
    lost = publish(table)
    bucket = Location(table.uri, store=Store(fs.LocalFileSystem(), table.uri, table.uri))
    store = ReportTable(Location.parse(table.uri) if local else bucket, DeltaTable(table.uri))
    assert (check_report(store).findings, check_report(store).uncommitted) == ((), 1)
    age(table, lost)

    assert only(check_report(store)).path == lost.path
    assert check_report(store).uncommitted == 0


def test_check_writes_nothing_and_takes_no_lock(
    table: ReportTable, file: ShardFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    with table.lock("bridge", "run-9"):
        age(table, publish(table))
    before = contents(table)
    locks: list[object] = []
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: locks.append(arguments))

    assert only(check(table)).kind == "orphan"

    assert contents(table) == before
    assert locks == []
