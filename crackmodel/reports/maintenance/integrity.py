"""Is the report what its log says, and does it hold every row once?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.errors import ReportDamaged
from crackmodel.reports.maintenance.compaction import replaced_files
from crackmodel.reports.reading.dataset import CommittedFile, committed_files, committed_rows
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.schema import FILE_SCHEMA, LATER_COLUMNS, PARTITION_COLUMN
from crackmodel.reports.survey_notes import damaged_notes
from crackmodel.reports.writing.shard_file import content_hash, is_shard_name, named_hash
from crackmodel.storage.location import Place, first_line

Kind = Literal["missing", "size", "hash", "unreadable", "schema", "rows", "duplicates", "orphan", "note"]

_READERS: Final = 4
"""Files that are read at the same time; each is in memory while it is looked at."""

_LONGEST_COMMIT: Final = timedelta(hours=1)
"""A file gets its name right before it is committed, so who has not committed it an hour later is dead."""

_RESTORE: Final = (
    "Restore it from a backup; without one delete it, let the log forget it with "
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
    """One thing that is wrong.

    Attributes:
        kind: What sort of fault; scripts may rely on the words.
        path: The file or folder, relative to the report.
        problem: What is wrong, one sentence.
        remedy: What to do about it, one sentence.
    """

    kind: Kind
    path: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a check has seen.

    Attributes:
        report: Where the report is.
        version: Number of the commit that was checked.
        files: Files in force.
        rows: Their rows, by the log.
        bytes: Their size, by the log.
        without_hash: Files that a hash was never noted for; they were decoded instead.
        replaced: Files that a compaction replaced and that are still there; no fault.
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
        """Complain if anything is wrong.

        Raises:
            ReportDamaged: There are findings.
        """
        if self.findings:
            count = len(self.findings)
            are = "thing is" if count == 1 else "things are"
            raise ReportDamaged(
                f"{count:,} {are} wrong with the report {self.report}.",
                "Do what the check says of each, and check again.",
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def check(table: DeltaTable, place: Place) -> Check:
    """Check a report from end to end; see `ReportTable.check`."""
    there = _parquet_files(place)  # before the log: what is committed meanwhile is no orphan
    table.update_incremental()
    files = committed_files(table)
    replaced = replaced_files(table, place)
    with ThreadPoolExecutor(_READERS) as readers:
        looks = readers.map(lambda file: _look_at(file, place, there.get(file.path)), files)
        faults = [fault for fault in looks if fault is not None]
    bad = {fault.path for fault in faults if fault.kind != "rows"}
    faults += _duplicates(table, place, sorted({file.survey for file in files}), bad)
    unnamed = {path: there[path] for path in sorted(there.keys() - {file.path for file in files} - replaced)}
    uncommitted = {path for path, info in unnamed.items() if _may_be_committed(path, info)}
    faults += _orphans(path for path in unnamed if path not in uncommitted)
    faults += [Finding("note", *note) for note in damaged_notes(place)]
    return Check(
        report=place.uri,
        version=int(table.version()),
        files=len(files),
        rows=sum(file.rows or 0 for file in files),
        bytes=sum(file.bytes for file in files),
        without_hash=sum(named_hash(file.name) is None for file in files),
        replaced=len(replaced),
        uncommitted=len(uncommitted),
        findings=tuple(faults),
    )


def _parquet_files(place: Place) -> dict[str, fs.FileInfo]:
    """What a reader of Parquet folders sees: nothing below names with a dot or an underscore."""
    found = place.filesystem.get_file_info(fs.FileSelector(place.root, recursive=True))
    paths = {
        info.path.removeprefix(f"{place.root}/"): info for info in found if info.type == fs.FileType.File
    }
    return {
        path: info
        for path, info in paths.items()
        if path.endswith(".parquet") and not any(part[0] in "._" for part in path.split("/"))
    }


def _look_at(file: CommittedFile, place: Place, info: fs.FileInfo | None) -> Finding | None:
    """Find the first thing that is wrong with a file in force."""
    remedy = _RESTORE.format(place.uri)
    if info is None:
        return Finding("missing", file.path, f"The log names {file.path}, and it is not there.", remedy)
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
    """Find the first thing that is wrong with the content of a file."""
    expected = named_hash(file.name)
    if expected and content_hash(content) != expected:
        return "hash", "is not what was written: its SHA-256 is not the one in its name"
    parquet = pq.ParquetFile(pa.BufferReader(content))
    if difference := _difference(parquet.schema_arrow):
        return "schema", f"has not the columns of a report: {difference}"
    rows = parquet.metadata.num_rows if expected else parquet.read().num_rows
    if file.rows == rows:
        return None
    return (
        "rows",
        f"has {rows:,} rows, and the log says {'nothing' if file.rows is None else f'{file.rows:,}'}",
    )


def _difference(schema: pa.Schema) -> str:
    """Say what a file lacks or has too much, ignoring how writers call the items of lists."""
    missing = [name for name in FILE_SCHEMA.names if name not in (*schema.names, *LATER_COLUMNS)]
    extra = [name for name in schema.names if name not in FILE_SCHEMA.names]
    differing = [
        name
        for name in FILE_SCHEMA.names
        if name in schema.names and not _same_type(schema.field(name).type, FILE_SCHEMA.field(name).type)
    ]
    parts = {"without": missing, "with": extra, "another type of": differing}
    return ", ".join(f"{how} {', '.join(names)}" for how, names in parts.items() if names)


def _same_type(one: pa.DataType, other: pa.DataType) -> bool:
    if pa.types.is_list(one) and pa.types.is_list(other):
        return bool(one.value_type == other.value_type)
    return bool(one == other)


def _duplicates(
    table: DeltaTable, place: Place, surveys: Collection[str], leave_out: Collection[str]
) -> Iterator[Finding]:
    """Find images that one run has more than one row of, survey by survey for the memory's sake."""
    for survey in surveys:
        folder = f"{PARTITION_COLUMN}={survey}"
        rows = committed_rows(table, place, survey, leave_out=leave_out)
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
                "The view `latest` counts each image once; to be rid of the others, score into a new report.",
            )


def _orphans(paths: Iterable[str]) -> Iterator[Finding]:
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        remedy = (
            "Score this survey again, which deletes it."
            if is_shard_name(name)
            else "Move it out of the report, if it is not needed there."
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
