"""The committed files of a report as one Arrow dataset.

Delta's own dataset builds an expression from every statistic of every column: a second per thousand files.
Here only those matter that name the run, the model and the preprocessing, and they are the same for a whole
file, so Arrow skips files of other runs without opening them and does not read these columns of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import and_
from typing import TYPE_CHECKING, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.errors import ReportError, ReportIncompatible
from crackmodel.reports.run_names import can_be_followed
from crackmodel.reports.schema import PARTITION_COLUMN, REPORT_SCHEMA
from crackmodel.storage.advice import raised_as

if TYPE_CHECKING:
    from crackmodel.reports.table import ReportTable

_CONSTANT_COLUMNS: Final = (PARTITION_COLUMN, "model", "model_sha256", "preprocess", "run_id")

UNREADABLE: Final = (
    "Run the query again, as the report may have been compacted meanwhile; else check the storage "
    "(crackmodel report check); if files were deleted by hand, restore them from a backup."
)
"""What to do where a committed file cannot be read."""

_KNOWN_READER_FEATURES: Final = {"timestampNtz"}


@contextmanager
def newest_rows(table: ReportTable, survey: str | None = None) -> Iterator[ds.Dataset]:
    """Give the newest rows of a report, or of one survey, with the errors of `reading`."""
    table.refresh()
    with reading(table.uri):
        yield committed_rows(table, survey)


def reading(uri: str) -> AbstractContextManager[None]:
    """Raise a ReportError that names the report when its files cannot be read."""
    problem = f"The rows of the report at {uri} cannot be read"
    return raised_as(ReportError, problem, UNREADABLE, pa.ArrowException, duckdb.Error)


def committed_rows(
    table: ReportTable, survey: str | None = None, leave_out: Collection[str] = ()
) -> ds.Dataset:
    """Return the rows of a report, or of one survey, as a dataset with `REPORT_SCHEMA`.

    Nothing is read yet, and later commits do not show. `leave_out` holds paths of files.

    Raises:
        ReportIncompatible: Another program has changed the table in a way that needs more than Parquet.
    """
    _require_plain_files(table.log, table.uri)
    root = fs.SubTreeFileSystem(table.place.root, table.place.filesystem)
    parquet = ds.ParquetFileFormat()
    fragments = [
        parquet.make_fragment(file.path, root, partition_expression=_all_equal(file.constants))
        for file in committed_files(table.log, survey)
        if file.path not in leave_out
    ]
    return ds.FileSystemDataset(fragments, REPORT_SCHEMA, parquet, root)


def survey_names(table: ReportTable) -> list[str]:
    """Return the names of the surveys that have rows, sorted."""
    table.refresh()
    return sorted({file.survey for file in committed_files(table.log)})


def newest_run(table: ReportTable, survey: str) -> str | None:
    """Return the name of the last run that has rows of a survey.

    It comes from the log's statistics, and is None where no run has any. Names that crackmodel does not give
    are left out: nothing could be named to sort behind them.
    """
    table.refresh()
    actions = pa.table(table.log.get_add_actions(flatten=True))
    if "max.run_id" not in actions.schema.names:
        return None
    of_survey = actions.filter(pc.equal(actions[f"partition.{PARTITION_COLUMN}"], survey))
    names = of_survey["max.run_id"].to_pylist()
    return max((name for name in names if name and can_be_followed(name)), default=None)


def named_files(table: DeltaTable, survey: str) -> set[str]:
    """Return the names of a survey's files in the log, replaced ones included."""
    in_force = [file.path for file in committed_files(table, survey)]
    replaced = table.vacuum(retention_hours=0, dry_run=True, enforce_retention_duration=False)
    return {path.rsplit("/", 1)[-1] for path in (*in_force, *replaced)}


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A file in force.

    Attributes:
        path: Path relative to the report.
        bytes: Its size according to the log.
        rows: How many rows it holds according to the log; None where its writer did not say.
        constants: Its one value (None where there are several) of `_CONSTANT_COLUMNS`.
    """

    path: str
    bytes: int
    rows: int | None
    constants: tuple[str | None, ...]

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def survey(self) -> str:
        """Name of its survey."""
        return str(self.constants[0])


def committed_files(table: DeltaTable, survey: str | None = None) -> list[CommittedFile]:
    """List the files in force of a loaded table, or of one of its surveys."""
    actions = pa.table(table.get_add_actions(flatten=True))
    if not actions.num_rows:
        return []
    columns = [actions[f"partition.{PARTITION_COLUMN}"].to_pylist()]
    for name in _CONSTANT_COLUMNS[1:]:
        if f"min.{name}" not in actions.schema.names:  # not kept since the report was made
            columns.append([None] * actions.num_rows)
            continue
        bounds = [actions[f"{end}.{name}"].to_pylist() for end in ("min", "max")]
        columns.append([low if low == high else None for low, high in zip(*bounds, strict=True)])
    named = (actions[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
    files = [CommittedFile(*file) for file in zip(*named, zip(*columns, strict=True), strict=True)]
    return files if survey is None else [file for file in files if file.constants[0] == survey]


@lru_cache
def _all_equal(constants: tuple[str | None, ...]) -> ds.Expression:
    known = zip(_CONSTANT_COLUMNS, constants, strict=True)
    return reduce(and_, (ds.field(name) == value for name, value in known if value is not None))


def _require_plain_files(table: DeltaTable, uri: str) -> None:
    protocol = table.protocol()
    needed = set(protocol.reader_features or ()) - _KNOWN_READER_FEATURES
    if protocol.min_reader_version == 2 or needed:  # version 2 means column mapping
        raise ReportIncompatible(
            f"Another program has given the report at {uri} Delta features that crackmodel cannot read: "
            f"{', '.join(sorted(needed)) or 'column mapping'}.",
            "Turn them off with that program (for deletion vectors: REORG TABLE ... APPLY (PURGE)).",
        )
