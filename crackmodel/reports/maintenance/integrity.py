"""A check whether a report's files are what its log says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from crackmodel.errors import ReportDamaged
from crackmodel.reports.maintenance.compaction import replaced_files
from crackmodel.reports.reading.dataset import CommittedFile, committed_files, committed_rows, reading
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.schema import FILE_SCHEMA, LATER_COLUMNS, PARTITION_COLUMN
from crackmodel.reports.survey_notes import damaged_notes
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import content_hash, is_shard_name, named_hash
from crackmodel.storage.advice import first_line
from crackmodel.storage.location import Location

Kind = Literal["missing", "size", "hash", "unreadable", "schema", "rows", "duplicates", "orphan", "note"]

_READERS: Final = 4
"""Files that are read at the same time; each is in memory while it is checked."""

_LONGEST_COMMIT: Final = timedelta(hours=1)
"""A file gets its name right before it is committed: after an hour its run must have been killed."""

_RESTORE: Final = (
    "Restore it from a backup. Without one, delete it, take it out of the log with "
    "`from deltalake import DeltaTable; DeltaTable({0!r}).repair()` in Python, and score the survey again."
)

_STORAGE: Final = "Check the storage, and check again."

_DUPLICATES: Final = """
    SELECT run_id, count(*), min(image) FROM (
        SELECT run_id, image FROM scored GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY run_id ORDER BY run_id
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a report.

    Attributes:
        kind: Kind of fault; scripts may rely on the words.
        path: The file or folder, relative to the report.
        problem: What is wrong, in one sentence.
        remedy: What to do about it, in one sentence.
    """

    kind: Kind
    path: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check.

    Attributes:
        version: Number of the commit that was checked.
        files: Files in force.
        rows: Their rows, according to the log.
        bytes: Their size, according to the log.
        without_hash: Files without a hash in their names, which were decoded instead.
        replaced: Files that a compaction replaced and that still exist; no fault.
        uncommitted: Files of a run that is going on, or that died within the last hour; no fault.
        findings: What is wrong.
    """

    report: str
    version: int
    files: int
    rows: int
    bytes: int
    without_hash: int
    replaced: int
    uncommitted: int
    findings: tuple[Finding, ...]

    def require_sound(self) -> None:
        """Raise an error if there are findings.

        Raises:
            ReportDamaged: There are findings.
        """
        if self.findings:
            count = len(self.findings)
            are = "thing is" if count == 1 else "things are"
            raise ReportDamaged(
                f"{count:,} {are} wrong with the report {self.report}.",
                "Do what the check says about each, and check again.",
            )


def check_report(table: ReportTable) -> Check:
    """Read every file from end to end, and compare all with the log.

    Rows that a run has twice, files that are missing, altered, or of another schema or number of rows
    than the log says, files that nobody committed, and damaged notes. Files of a run that may be going on are
    no fault. Changes nothing and takes no lock.

    Raises:
        ReportError: The report's folder cannot be listed, or its log not be read.
    """
    place = table.place
    with reading(table.uri), table.reading_log():
        there = _parquet_files(place)  # before the log: what is committed meanwhile is no orphan
        table.log.update_incremental()
        files = committed_files(table.log)
        replaced = replaced_files(table.log, place)
        with ThreadPoolExecutor(_READERS) as readers:
            looks = readers.map(lambda file: _look_at(file, place, there.get(file.path)), files)
            faults = [fault for fault in looks if fault is not None]
        bad = {fault.path for fault in faults if fault.kind != "rows"}
        faults += _duplicates(table, sorted({file.survey for file in files}), bad)
        named = {file.path for file in files} | replaced
        unnamed = {path: there[path] for path in sorted(there.keys() - named)}
        uncommitted = {path for path, info in unnamed.items() if _may_be_committed(path, info)}
        faults += _orphans(path for path in unnamed if path not in uncommitted)
        faults += [Finding("note", *note) for note in damaged_notes(place)]
    return Check(
        report=table.uri,
        version=table.version,
        files=len(files),
        rows=sum(file.rows or 0 for file in files),
        bytes=sum(file.bytes for file in files),
        without_hash=sum(named_hash(file.name) is None for file in files),
        replaced=len(replaced),
        uncommitted=len(uncommitted),
        findings=tuple(faults),
    )


def _parquet_files(place: Location) -> dict[str, fs.FileInfo]:
    """List the files that readers of Parquet folders do not skip."""
    found = place.filesystem.get_file_info(fs.FileSelector(place.root, recursive=True))
    paths = {
        info.path.removeprefix(f"{place.root}/"): info for info in found if info.type == fs.FileType.File
    }
    return {
        path: info
        for path, info in paths.items()
        if path.endswith(".parquet") and not any(part[0] in "._" for part in path.split("/"))
    }


def _look_at(file: CommittedFile, place: Location, info: fs.FileInfo | None) -> Finding | None:
    """Find the first fault of a file in force."""
    remedy = _RESTORE.format(place.uri)
    if info is None:
        return Finding("missing", file.path, f"The log names {file.path}, which does not exist.", remedy)
    if info.size != file.bytes:
        problem = f"{file.path} has {info.size:,} bytes, and the log says {file.bytes:,}."
        return Finding("size", file.path, problem, remedy)
    try:
        with place.filesystem.open_input_stream(place.inside(file.path)) as stream:
            wrong = _look_into(stream.read_buffer(), file)
    except (OSError, pa.ArrowException) as error:
        wrong = "unreadable", f"cannot be read: {first_line(error)}"
    return Finding(wrong[0], file.path, f"{file.path} {wrong[1]}.", remedy) if wrong else None


def _look_into(content: pa.Buffer, file: CommittedFile) -> tuple[Kind, str] | None:
    """Find the first fault in the content of a file."""
    expected = named_hash(file.name)
    if expected and content_hash(content) != expected:
        return "hash", "has changed since it was written: its SHA-256 is not the one in its name"
    parquet = pq.ParquetFile(pa.BufferReader(content))
    if difference := _difference(parquet.schema_arrow):
        return "schema", f"does not have the columns of a report: {difference}"
    rows = parquet.metadata.num_rows if expected else parquet.read().num_rows
    if file.rows == rows:
        return None
    return (
        "rows",
        f"has {rows:,} rows, and the log says {'nothing' if file.rows is None else f'{file.rows:,}'}",
    )


def _difference(schema: pa.Schema) -> str:
    """Describe missing, additional and differing columns."""
    parts = {
        "without": [name for name in FILE_SCHEMA.names if name not in (*schema.names, *LATER_COLUMNS)],
        "with": [name for name in schema.names if name not in FILE_SCHEMA.names],
        "another type of": [
            field.name
            for field in FILE_SCHEMA
            if field.name in schema.names and schema.field(field.name).type != field.type
        ],
    }
    return ", ".join(f"{how} {', '.join(names)}" for how, names in parts.items() if names)


def _duplicates(
    table: ReportTable, surveys: Collection[str], leave_out: Collection[str]
) -> Iterator[Finding]:
    """Find images with several rows of one run; a survey at a time saves memory."""
    for survey in surveys:
        folder = f"{PARTITION_COLUMN}={survey}"
        rows = committed_rows(table, survey, leave_out=leave_out)
        scanner = rows.scanner(columns=["run_id", "image"], cache_metadata=False)
        try:
            with open_database({"scored": scanner}) as database:
                found = database.sql(_DUPLICATES).fetchall()
        except (OSError, pa.ArrowException, duckdb.Error) as error:
            yield Finding(
                "unreadable", folder, f"The rows of {survey} cannot be read: {first_line(error)}.", _STORAGE
            )
            continue
        for run_id, images, example in found:
            yield Finding(
                "duplicates",
                folder,
                f"Run {run_id} has several rows for {images:,} images of {survey}, such as {example}.",
                "The view `latest` counts each image once; to remove the others, score into a new report.",
            )


def _orphans(paths: Iterable[str]) -> Iterator[Finding]:
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        remedy = (
            "Score this survey again, which deletes it."
            if is_shard_name(name)
            else "Move it out of the report."
        )
        yield Finding(
            "orphan",
            path,
            f"{path} is not in the log, and readers of Parquet folders count its rows.",
            remedy,
        )


def _may_be_committed(path: str, info: fs.FileInfo) -> bool:
    """Whether a run may still be about to commit the file.

    Its age says so, not the survey's lock: a check that takes the lock writes, and turns away a run that
    begins at that moment.
    """
    young = info.mtime is not None and datetime.now(UTC) - info.mtime < _LONGEST_COMMIT
    return young and is_shard_name(path.rsplit("/", 1)[-1])
