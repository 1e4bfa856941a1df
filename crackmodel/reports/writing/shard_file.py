"""The worker's side of a report: a shard of rows becomes one Parquet file. Needs pyarrow alone.

A file is born under a hidden name, which readers of Parquet folders skip, and gets its final name right
before it is committed. The names carry a random part: when Ray repeats a shard whose first attempt is
still alive somewhere, the two never write the same file. And they end with the beginning of the content's
SHA-256, so that a file says of itself whether it is whole, as long as it exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crackmodel.errors import ReportWriteFailed
from crackmodel.reports.run_names import RUN_NAME
from crackmodel.reports.schema import (
    FILE_SCHEMA,
    PARTITION_COLUMN,
    check_name,
    check_rows,
    partition_folder,
)
from crackmodel.storage.location import Place, open_place, write_failed

BOUNDED_COLUMNS: Final = ("image", "model", "model_sha256", "preprocess", "run_id")
"""Columns whose smallest and largest value go into the log, so that readers can skip whole files."""

_LONGEST_BOUND: Final = 256

WRITING: Final[Mapping[str, Any]] = {"compression": "zstd", "write_statistics": True}
"""How every Parquet file of a report is written."""

_RUN_SHARD: Final = re.compile(
    rf"\.?part-{RUN_NAME}-[0-9]{{6,}}-[0-9a-f]{{8}}(-[0-9a-f]{{16}})?\.parquet(\.tmp)?", re.ASCII
)
_HASHED: Final = re.compile(r"part-.+-[0-9]{6,}-[0-9a-f]{8}-([0-9a-f]{16})\.parquet", re.ASCII)


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One written Parquet file, and all that the log has to know of it.

    Attributes:
        path: Final path relative to the report, `survey=bridge/part-<run>-000007-<random>-<hash>.parquet`.
        bytes: Size of the file.
        rows: Number of rows in it, at least one.
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
        """Path relative to the report until `publish_shard` moves the file."""
        folder, name = self.path.rsplit("/", 1)
        return f"{folder}/.{name}.tmp"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many rows a file has, and the smallest and the largest value of `BOUNDED_COLUMNS` in them."""

    rows: int
    smallest: Mapping[str, str]
    largest: Mapping[str, str]

    @classmethod
    def of(cls, content: pa.Table) -> Self:
        """Find those of at least one row."""
        found = {name: pc.min_max(content[name]).as_py() for name in BOUNDED_COLUMNS}
        return cls(
            content.num_rows,
            {name: bounds["min"] for name, bounds in found.items()},
            {name: bounds["max"] for name, bounds in found.items()},
        )

    def __add__(self, other: Bounds) -> Bounds:
        """Those of two files put together."""
        return Bounds(
            self.rows + other.rows,
            {name: min(self.smallest[name], other.smallest[name]) for name in BOUNDED_COLUMNS},
            {name: max(self.largest[name], other.largest[name]) for name in BOUNDED_COLUMNS},
        )

    def statistics(self) -> str:
        """Delta Lake file statistics: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics."""
        short = [
            name
            for name in BOUNDED_COLUMNS
            if max(len(self.smallest[name]), len(self.largest[name])) <= _LONGEST_BOUND
        ]
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: self.smallest[name] for name in short},
                "maxValues": {name: self.largest[name] for name in short},
                "nullCount": dict.fromkeys(short, 0),
            }
        )


def is_shard_name(name: str) -> bool:
    """Whether a scoring run may have given a file this name, hidden or final.

    Delta Lake's own files begin with `part-` too, and other programs write Parquet files into a report:
    only a name with the time and the random part of a run, `20261123T063950Z-b4b2c7`, is ours.
    """
    return _RUN_SHARD.fullmatch(name) is not None


def content_hash(encoded: pa.Buffer) -> str:
    """The part of a file's SHA-256 that its name ends with: 64 bits, as hexadecimal digits."""
    return hashlib.sha256(encoded).hexdigest()[:16]


def named_hash(name: str) -> str | None:
    """The digits in a shard's name; None for files of other programs and of an older crackmodel."""
    match = _HASHED.fullmatch(name)
    return None if match is None else match[1]


def write_shard(report_uri: str, survey: str, run_id: str, shard: int, rows: pa.Table) -> ShardFile:
    """Write the rows of one shard under a hidden name.

    Args:
        report_uri: The report's path or URI; the report must exist.
        survey: Name of the survey that the rows belong to.
        run_id: Name of the run.
        shard: Number of the shard within the run.
        rows: At least one row, with `REPORT_SCHEMA` or the same without `survey`.

    Returns:
        What `publish_shard` and `ReportTable.commit` need. The file is on the disk, not in a cache.

    Raises:
        ReportWriteFailed: The storage did not take the file; nothing of it is left behind.
        UsageError: The survey or the run has a name that cannot be part of a path.
        ValueError: The rows are none, have another schema, or belong to another survey.
    """
    content = _file_content(rows, survey)
    stem = f"part-{check_name(run_id, 'run')}-{shard:06d}"
    place = open_place(report_uri)
    _require_report(place)
    sink = pa.BufferOutputStream()  # a shard is small enough to be held twice
    pq.write_table(content, sink, **WRITING, row_group_size=content.num_rows)
    return write_file(place, survey, stem, sink.getvalue(), Bounds.of(content))


def write_file(place: Place, survey: str, stem: str, encoded: pa.Buffer, bounds: Bounds) -> ShardFile:
    """Write a Parquet file under a hidden name.

    Args:
        place: Where the report lies.
        survey: Name of the survey.
        stem: How its name begins.
        encoded: The file.
        bounds: What the log says of its rows.

    Raises:
        ReportWriteFailed: The storage did not take the file; nothing of it is left behind.
    """
    unique = f"{uuid.uuid4().hex[:8]}-{content_hash(encoded)}"
    path = f"{partition_folder(survey)}/{stem}-{unique}.parquet"
    partition = {PARTITION_COLUMN: survey}
    file = ShardFile(path, encoded.size, bounds.rows, partition, bounds.statistics())
    target = place.inside(file.hidden_path)
    try:
        _write(place, target, encoded)
    except OSError as error:
        with contextlib.suppress(OSError):
            place.filesystem.delete_file(target)
        raise write_failed(error, target) from error
    return file


def publish_shard(report_uri: str, shard: ShardFile) -> None:
    """Give a written shard its final name, right before the commit. Doing it twice is harmless.

    Raises:
        ReportWriteFailed: The file is gone or cannot be renamed.
    """
    place = open_place(report_uri)
    hidden, final = place.inside(shard.hidden_path), place.inside(shard.path)
    try:
        if not place.exists(shard.hidden_path) and place.exists(shard.path):
            return
        place.filesystem.move(hidden, final)
        if place.local is not None:
            _flush(Path(final).parent)
    except FileNotFoundError as error:
        raise ReportWriteFailed(
            f"{hidden} was written by a worker but is not there any more.",
            "Make sure that all nodes share the report's storage and that nobody tidies it, and run again.",
        ) from error
    except OSError as error:
        raise write_failed(error, final) from error


def _require_report(place: Place) -> None:
    """Refuse to make a stray folder on a node that does not see the report."""
    try:
        if place.exists("_delta_log"):
            return
    except OSError as error:
        raise write_failed(error, place.uri) from error
    raise ReportWriteFailed(
        f"There is no report at {place.uri} as this worker sees it.",
        "Mount the same storage under the same path on every node, or use an s3:// or gs:// URI.",
    )


def _write(place: Place, target: str, encoded: pa.Buffer) -> None:
    if place.local is not None:  # an object store has no folders, only markers that pretend
        place.filesystem.create_dir(target.rsplit("/", 1)[0], recursive=False)
    with place.filesystem.open_output_stream(target) as sink:
        sink.write(encoded)
    if place.local is not None:
        _flush(Path(target))


def _flush(path: Path) -> None:
    """Wait until the disk has it: a power cut must not leave a committed file empty."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_content(rows: pa.Table, survey: str) -> pa.Table:
    """The rows as they go into the file, checked."""
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
