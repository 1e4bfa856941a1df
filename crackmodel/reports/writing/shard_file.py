"""One Parquet file of a report, written by a worker with pyarrow alone.

A file is written under a hidden name, which readers of Parquet folders skip, and gets its final name right
before it is committed. A part of the name is random: when Ray repeats a shard whose first attempt is still
alive somewhere, the two never write the same file. The name ends with the beginning of the content's SHA-256,
so that damage can be found as long as the file exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from crackmodel.errors import ReportWriteFailed
from crackmodel.reports.report_location import locate_report, writing
from crackmodel.reports.run_names import RUN_NAME
from crackmodel.reports.schema import (
    FILE_SCHEMA,
    PARTITION_COLUMN,
    check_name,
    check_rows,
    partition_folder,
)
from crackmodel.storage.files import sync
from crackmodel.storage.location import Location

BOUNDED_COLUMNS: Final = ("image", "model", "model_sha256", "preprocess", "run_id")
"""Columns whose smallest and largest values go into the log, so that readers can skip files."""

_LONGEST_BOUND: Final = 256

WRITING: Final[Mapping[str, Any]] = {"compression": "zstd", "write_statistics": True}
"""Options of every Parquet file of a report."""

_RUN_SHARD: Final = re.compile(
    rf"\.?part-{RUN_NAME}-[0-9]{{6,}}-[0-9a-f]{{8}}(-[0-9a-f]{{16}})?\.parquet(\.tmp)?", re.ASCII
)
_HASHED: Final = re.compile(r"part-.+-[0-9]{6,}-[0-9a-f]{8}-([0-9a-f]{16})\.parquet", re.ASCII)


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One written Parquet file, as the log describes it.

    Attributes:
        path: Final path relative to the report, `survey=bridge/part-<run>-000007-<random>-<hash>.parquet`.
        partition: The partition column and its value, `{"survey": "bridge"}`.
        stats: Delta Lake's file statistics as JSON: number of rows, smallest and largest values.
    """

    path: str
    bytes: int
    rows: int
    partition: Mapping[str, str]
    stats: str

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def hidden_path(self) -> str:
        """Path relative to the report until `publish_shard` renames the file."""
        folder, name = self.path.rsplit("/", 1)
        return f"{folder}/.{name}.tmp"


def is_shard_name(name: str) -> bool:
    """Whether a name, hidden or final, is that of a run's file.

    Files of Delta Lake and other programs begin with `part-` too, but do not have a run's name in theirs.
    """
    return _RUN_SHARD.fullmatch(name) is not None


def content_hash(encoded: pa.Buffer) -> str:
    """Return the hash for a file's name: 64 bits of SHA-256, hexadecimal."""
    return hashlib.sha256(encoded).hexdigest()[:16]


def named_hash(name: str) -> str | None:
    """Return the hash in a file's name; None if it was written without."""
    match = _HASHED.fullmatch(name)
    return None if match is None else match[1]


def write_shard(report: str | Location, survey: str, run_id: str, shard: int, rows: pa.Table) -> ShardFile:
    """Write the rows of one shard, with or without the column `survey`, under a hidden name.

    Returns:
        What `publish_shard` and `ReportTable.commit` need. The file is on the disk, not only in a cache.

    Raises:
        ReportWriteFailed: There is no report, or the storage did not take the file; nothing of it is left.
        UsageError: The name of the survey or the run cannot be part of a path.
        ValueError: There are no rows, or they have another schema or belong to another survey.
    """
    content = _file_content(rows, survey)
    stem = f"part-{check_name(run_id, 'run')}-{shard:06d}"
    place = locate_report(report)
    _require_report(place)
    sink = pa.BufferOutputStream()  # a shard is small enough to be held twice
    pq.write_table(content, sink, **WRITING, row_group_size=content.num_rows)
    return write_file(place, survey, stem, sink.getvalue())


def write_file(place: Location, survey: str, stem: str, encoded: pa.Buffer) -> ShardFile:
    """Write an encoded Parquet file under a hidden name that begins with `stem`.

    Raises:
        ReportWriteFailed: The storage did not take the file; nothing of it is left behind.
    """
    unique = f"{uuid.uuid4().hex[:8]}-{content_hash(encoded)}"
    path = f"{partition_folder(survey)}/{stem}-{unique}.parquet"
    metadata = pq.read_metadata(pa.BufferReader(encoded))
    file = ShardFile(
        path, encoded.size, metadata.num_rows, {PARTITION_COLUMN: survey}, _delta_statistics(metadata)
    )
    target = place.inside(file.hidden_path)
    with writing(target):
        try:
            if place.local is not None:  # an object store has no folders
                place.filesystem.create_dir(target.rsplit("/", 1)[0], recursive=False)
            with place.filesystem.open_output_stream(target) as sink:
                sink.write(encoded)
            if place.local is not None:
                sync(Path(target))
        except OSError:
            with contextlib.suppress(OSError):
                place.filesystem.delete_file(target)
            raise
    return file


def publish_shard(report: str | Location, shard: ShardFile) -> None:
    """Give a file its final name before the commit; may be repeated.

    Raises:
        ReportWriteFailed: The file is gone or cannot be renamed.
    """
    place = locate_report(report)
    hidden, final = place.inside(shard.hidden_path), place.inside(shard.path)
    with writing(final):
        if not place.exists(shard.hidden_path) and place.exists(shard.path):
            return
        try:
            place.filesystem.move(hidden, final)
        except FileNotFoundError as error:
            raise ReportWriteFailed(
                f"{hidden} was written by a worker but no longer exists.",
                "Check that all nodes share the report's storage and that nothing else deletes files there, "
                "and run again.",
            ) from error
        if place.local is not None:
            sync(Path(final).parent)


def _require_report(place: Location) -> None:
    """Refuse to make a folder on a node that does not see the report."""
    with writing(place.uri):
        if place.exists("_delta_log"):
            return
    raise ReportWriteFailed(
        f"This worker finds no report at {place.uri}.",
        "Mount the same storage under the same path on every node, or use an s3:// or gs:// URI.",
    )


def _delta_statistics(metadata: pq.FileMetaData) -> str:
    """Return https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics of a file."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = {metadata.schema.column(number).path: number for number in range(metadata.num_columns)}
    smallest, largest = {}, {}
    for name in BOUNDED_COLUMNS:
        bounds = [group.column(columns[name]).statistics for group in groups]
        if all(
            bound.has_min_max and max(len(bound.min), len(bound.max)) <= _LONGEST_BOUND for bound in bounds
        ):
            smallest[name] = min(bound.min for bound in bounds)
            largest[name] = max(bound.max for bound in bounds)
    return json.dumps(
        {
            "numRecords": metadata.num_rows,
            "minValues": smallest,
            "maxValues": largest,
            "nullCount": dict.fromkeys(smallest, 0),
        }
    )


def _file_content(rows: pa.Table, survey: str) -> pa.Table:
    """Check the rows, and return them without the partition column."""
    if PARTITION_COLUMN in rows.column_names:
        surveys = rows[PARTITION_COLUMN].unique().to_pylist()
        if surveys not in ([], [survey]):
            raise ValueError(f"rows of {surveys} cannot be written as rows of survey {survey!r}")
        rows = rows.drop_columns([PARTITION_COLUMN])
    if not rows.schema.equals(FILE_SCHEMA):
        raise ValueError(f"rows have another schema than the report:\n{rows.schema}")
    if not rows.num_rows:
        raise ValueError("a shard without rows cannot be written")
    check_rows(rows)
    return rows
