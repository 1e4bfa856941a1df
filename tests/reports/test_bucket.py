"""The same care for a report in an object store, where nothing can be locked or renamed at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow.dataset as ds
import pytest

from crackmodel.errors import ReportBusy, ReportError
from crackmodel.reports.compatibility import is_vacant, load
from crackmodel.reports.maintenance import compaction
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.reading.incremental import pending
from crackmodel.reports.report_location import locate_report
from crackmodel.reports.survey_notes import bind_source, knows_survey, mark_announced, read_announced
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from tests.object_store import BUCKET, ObjectStore
from tests.reports.rows import KEY, NOON, build_rows, make_listing, make_row

LISTING = make_listing(("a.jpg", 1000, NOON), ("b.jpg", 1000, NOON))


@pytest.fixture
def store(object_store: ObjectStore) -> ReportTable:
    """An empty report in a bucket."""
    return ReportTable.open_or_create(f"s3://{BUCKET}/report")


def shard(table: ReportTable, image: str, run_id: str) -> list[ShardFile]:
    file = write_shard(table.uri, "bridge", run_id, 0, build_rows([make_row(image, run_id=run_id)]))
    publish_shard(table.uri, file)
    return [file]


def ask(table: ReportTable) -> list[str]:
    table.begin("bridge", "run-a")
    left = pending(table, LISTING, KEY)
    images: list[str] = left["image"].to_pylist()
    return images


def plain(table: ReportTable) -> list[str]:
    """What a reader of the folder counts that knows nothing of the log."""
    place = locate_report(table.uri)
    rows = ds.dataset(place.root, filesystem=place.filesystem, partitioning="hive")
    return sorted(rows.to_table(columns=["image"])["image"].to_pylist())


def test_of_two_runs_the_first_to_commit_goes_on(store: ReportTable) -> None:
    other = ReportTable.open(store.uri)
    assert ask(store) == ask(other) == ["a.jpg", "b.jpg"]
    mine, theirs = shard(store, "a.jpg", "run-a"), shard(other, "a.jpg", "run-b")
    store.commit(mine, run_id="run-a")

    with pytest.raises(ReportBusy, match="another run, run-a"):
        other.commit(theirs, run_id="run-b")

    assert plain(store) == ["a.jpg"]
    assert ask(other) == ["b.jpg"]
    other.commit(shard(other, "b.jpg", "run-b"), run_id="run-b")
    assert plain(store) == ["a.jpg", "b.jpg"]


def test_what_was_announced_is_noted_by_two_at_once(store: ReportTable) -> None:
    assert read_announced(store.place, "bridge") is None
    bind_source(store.place, "bridge", "s3://photos/bridge", has_rows=False)
    assert read_announced(store.place, "bridge") == {}

    def announce(night: str) -> None:
        table = ReportTable.open(store.uri)
        for number in range(5):
            mark_announced(table.place, "bridge", {f"{night}-{number}": 3})

    with ThreadPoolExecutor(2) as nights:
        list(nights.map(announce, ("one", "other")))
    mark_announced(store.place, "bridge", {"one-0": 2, "one-1": 4})
    announced = read_announced(ReportTable.open(store.uri).place, "bridge") or {}
    assert (len(announced), announced["one-0"], announced["one-1"]) == (10, 3, 4)
    assert check_report(store).findings == ()


def test_two_compactions_at_once_are_one_and_the_check_agrees(
    store: ReportTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store)
    for image in "abc":
        store.commit(shard(store, f"{image}.jpg", "run-a"), run_id="run-a")
    write, others = compaction.write_file, [ReportTable.open(store.uri)]

    def write_slowly(*arguments: object) -> ShardFile:
        file = write(*arguments)  # type: ignore[arg-type]
        if others:
            compact(others.pop(), "bridge")
        return file

    monkeypatch.setattr(compaction, "write_file", write_slowly)
    with pytest.raises(ReportBusy, match="compacted by another process"):
        compact(store, "bridge")

    assert plain(store) == ["a.jpg", "b.jpg", "c.jpg"]
    checked = check_report(store)
    assert (checked.findings, checked.files, checked.rows, checked.replaced) == ((), 1, 3, 0)
    place = locate_report(store.uri)
    (path,) = (file.path for file in compaction.committed_files(store.log))
    place.filesystem.delete_file(place.inside(path))
    assert [finding.kind for finding in check_report(store).findings] == ["missing"]


def test_a_store_that_refuses_is_a_report_s_error_for_whoever_asks(
    store: ReportTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY")
    place = locate_report(store.uri)
    for ask_it in (lambda: knows_survey(store.uri, "bridge"), lambda: load(place), lambda: is_vacant(place)):
        with pytest.raises(ReportError, match=r"access was denied\. Check that the credentials"):
            ask_it()
