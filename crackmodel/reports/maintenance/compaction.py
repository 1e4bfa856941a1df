"""Putting many small files together into a few large ones.

A reader of Parquet folders that does not know the log counts the rows of replaced files a second time. So
they are deleted at once, unless somebody wants to read earlier versions.

deltalake's own `optimize.compact` is not used: as of 1.6, two of them at once are both committed, and every
row is there twice (its conflict check lets files be removed twice if no data changes). It also drops the
application transactions that would prevent that. Here Delta Lake refuses the later of two: see `Fence`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction
from pyarrow import fs

from crackmodel.errors import ReportBusy, ReportDamaged
from crackmodel.reports.compatibility import add_later_columns
from crackmodel.reports.reading.dataset import CommittedFile, committed_files
from crackmodel.reports.report_location import writing
from crackmodel.reports.run_names import name_run
from crackmodel.reports.schema import FILE_SCHEMA, PARTITION_COLUMN
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.fencing import Fence, commit_actions
from crackmodel.reports.writing.shard_file import (
    WRITING,
    ShardFile,
    content_hash,
    named_hash,
    publish_shard,
    write_file,
)
from crackmodel.storage.location import Location

TARGET_BYTES: Final = 64 * 2**20
"""Largest size of a compacted file, which is held in memory until it is written."""

_ROW_GROUP_BYTES: Final = 16 * 2**20
"""Size in Arrow's memory of the rows that are decoded at once, here and by a reader."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """The result of compacting one survey.

    Attributes:
        deleted: Replaced files that were deleted, of all surveys.
    """

    survey: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    deleted: int


def small_files(table: ReportTable, survey: str, target_bytes: int = TARGET_BYTES) -> list[CommittedFile]:
    """Find the survey's files of less than half the size of a compacted one, oldest run first."""
    table.refresh()
    files = [file for file in committed_files(table.log, survey) if file.bytes < target_bytes // 2]
    return sorted(files, key=lambda file: file.path)


def compact(
    table: ReportTable, survey: str, *, target_bytes: int = TARGET_BYTES, keep_hours: int = 0
) -> Compaction:
    """Compact a survey's small files, and delete the replaced files of every survey.

    Rows stay as they are. The caller holds the survey's lock; without one, the later of two compactions at
    once stops, and runs go on. A reader that opened the report before may find files gone and has to open it
    again.

    Files that were replaced in the last `keep_hours`, at most 168, are kept: earlier versions can be read so
    long, and plain readers of Parquet folders count their rows twice. After Delta's week the log forgets
    replaced files, and nobody would delete them.

    Raises:
        ReportBusy: Another process compacts the survey.
        ReportDamaged: A file has changed since it was written; nothing is changed.
        ReportWriteFailed: The storage failed; no row is lost.
    """
    table.refresh()
    log, place = table.log, table.place
    with writing(f"the compaction of {survey} in {table.uri}", DeltaError):
        add_later_columns(log)
        log.update_incremental()
        before = committed_files(log, survey)
        name = name_run(newest=None)
        fence = Fence(log, place, of="compaction")
        fence.remember(survey)
        for number, bundle in enumerate(_bundles(small_files(table, survey, target_bytes), target_bytes)):
            if fence.is_raised(survey):
                raise _busy(survey, place)
            file = _put_together(place, survey, f"part-{name}-{number:06d}", bundle)
            publish_shard(place, file)
            _replace(log, place, bundle, file, fence)
            log.update_incremental()
            fence.note_commit([survey])
        after = committed_files(log, survey)
        deleted = delete_replaced(table, keep_hours=keep_hours)
    return Compaction(survey, len(before), len(after), _size(before), _size(after), deleted)


def delete_replaced(table: ReportTable, *, keep_hours: int = 0) -> int:
    """Delete and count the files of every survey that compactions replaced so long ago.

    Raises:
        ReportWriteFailed: The storage failed.
    """
    table.refresh()
    with writing(f"the removal of replaced files in {table.uri}", DeltaError):
        replaced = replaced_files(table.log, table.place, keep_hours)
        if replaced:  # a vacuum makes two commits even where it finds nothing
            table.log.vacuum(retention_hours=keep_hours, dry_run=False, enforce_retention_duration=False)
            table.log.update_incremental()
    return len(replaced)


def replaced_files(table: DeltaTable, place: Location, keep_hours: int = 0) -> set[str]:
    """Find files that were replaced so long ago and still exist."""
    named = table.vacuum(retention_hours=keep_hours, dry_run=True, enforce_retention_duration=False)
    paths = {"/".join(path.rsplit("/", 2)[-2:]) for path in named}
    found: set[str] = set()
    for folder in {path.split("/")[0] for path in paths}:
        there = place.filesystem.get_file_info(fs.FileSelector(place.inside(folder), allow_not_found=True))
        found |= {f"{folder}/{info.base_name}" for info in there}
    return paths & found


def _bundles(files: Sequence[CommittedFile], target_bytes: int) -> Iterator[list[CommittedFile]]:
    """Group the files that become one; a single file is left out."""
    bundle: list[CommittedFile] = []
    for file in files:
        if bundle and _size(bundle) + file.bytes > target_bytes:
            yield bundle
            bundle = []
        bundle.append(file)
    if len(bundle) > 1:
        yield bundle


def _put_together(place: Location, survey: str, stem: str, bundle: Sequence[CommittedFile]) -> ShardFile:
    sink = pa.BufferOutputStream()
    waiting: list[pa.Table] = []
    size = 0
    with pq.ParquetWriter(sink, FILE_SCHEMA, **WRITING) as writer:
        for file in bundle:
            waiting.append(_read_whole(place, file.path))
            size += waiting[-1].nbytes
            if size >= _ROW_GROUP_BYTES or file is bundle[-1]:
                rows = pa.concat_tables(waiting)
                writer.write_table(rows, row_group_size=rows.num_rows)
                waiting, size = [], 0
    return write_file(place, survey, stem, sink.getvalue())


def _read_whole(place: Location, path: str) -> pa.Table:
    """Read a file, unless it is damaged: under a new hash nobody would notice.

    Raises:
        ReportDamaged: The file has changed since it was written.
        OSError: It cannot be read.
    """
    with place.filesystem.open_input_stream(place.inside(path)) as stream:
        content = stream.read_buffer()
    expected = named_hash(path.rsplit("/", 1)[-1])
    if expected and content_hash(content) != expected:
        raise ReportDamaged(
            f"{place.inside(path)} has changed since it was written, so it is not compacted.",
            f"Find out what else is damaged: crackmodel report check --report {place.uri}.",
        )
    return pq.read_table(pa.BufferReader(content), schema=FILE_SCHEMA)


def _replace(
    table: DeltaTable, place: Location, bundle: Sequence[CommittedFile], file: ShardFile, fence: Fence
) -> None:
    """Commit one file in place of several."""
    now = time.time_ns() // 1_000_000
    survey = file.partition[PARTITION_COLUMN]
    removed = [RemoveAction(old.path, False, now, old.bytes, dict(file.partition)) for old in bundle]
    try:
        commit_actions(
            table,
            [AddAction(file.path, file.bytes, file.partition, now, False, file.stats), *removed],
            fence.transactions([survey]),
            {"survey": survey, "compacted": len(bundle), "files": 1, "rows": file.rows},
        )
    except (DeltaError, OSError) as error:
        table.update_incremental()
        if any(known.path == file.path for known in committed_files(table, survey)):
            return  # the answer was lost, and the commit was not
        if isinstance(error, CommitFailedError):  # any other may still arrive, and needs its file then
            with contextlib.suppress(OSError):
                place.filesystem.delete_file(place.inside(file.path))
            if fence.is_raised(survey):
                raise _busy(survey, place) from error
        raise


def _busy(survey: str, place: Location) -> ReportBusy:
    return ReportBusy(
        f"Survey {survey!r} in {place.uri} is being compacted by another process too.",
        "Leave it to that one; nothing was changed twice.",
    )


def _size(files: Sequence[CommittedFile]) -> int:
    return sum(file.bytes for file in files)
