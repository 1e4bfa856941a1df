"""Distinguish a report from other files, folders and tables, and from other versions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow import fs

from crackmodel.errors import ReportIncompatible
from crackmodel.reports.schema import LATER_COLUMNS, PARTITION_COLUMN, REPORT_SCHEMA
from crackmodel.reports.survey_notes import SURVEY_FOLDER
from crackmodel.reports.writing.lock import LOCK_FOLDER
from crackmodel.storage.advice import raised_as
from crackmodel.storage.location import Location

_LOG_FOLDER: Final = "_delta_log"
_COMMIT: Final = re.compile(r"[0-9]{20}\..*(json|parquet)")


def is_vacant(place: Location) -> bool:
    """Whether a report can be created in a place.

    It can where nothing is, in an empty folder, and where creating one was interrupted.

    Raises:
        ReportIncompatible: The folder cannot be read.
    """
    remedy = "Check the permissions, or choose another place with --report."
    with raised_as(ReportIncompatible, f"{place.uri} cannot be read", remedy):
        info = place.filesystem.get_file_info(place.root)
        if info.type == fs.FileType.NotFound:
            return True
        if info.type != fs.FileType.Directory:
            return False
        inside = {entry.base_name for entry in place.filesystem.get_file_info(fs.FileSelector(place.root))}
        begun = _LOG_FOLDER in inside and not _has_commits(place)
    return inside <= {LOCK_FOLDER, SURVEY_FOLDER, *([_LOG_FOLDER] if begun else [])}


def _has_commits(place: Location) -> bool:
    """Whether a log has commits: creating a report may have been interrupted before the first."""
    log = place.filesystem.get_file_info(fs.FileSelector(place.inside(_LOG_FOLDER)))
    return any(_COMMIT.fullmatch(entry.base_name) for entry in log)


def load(place: Location) -> DeltaTable:
    """Load the newest version of a report.

    Raises:
        ReportIncompatible: It is no report, or its log cannot be read.
    """
    problem = f"The log of the report at {place.uri} cannot be read"
    remedy = "Restore the folder _delta_log from a backup, or score into a new report with --report."
    with raised_as(ReportIncompatible, problem, remedy, DeltaError):
        if place.filesystem.get_file_info(place.root).type == fs.FileType.File:
            raise ReportIncompatible(
                f"{place.uri} is a file; a report is a folder.",
                "Choose another place with --report.",
            )
        try:
            table = DeltaTable(place.delta_uri, storage_options=place.delta_options or None)
        except TableNotFoundError as error:
            raise ReportIncompatible(
                f"The folder {place.uri} holds other files and no report.",
                "Choose an empty or new folder with --report.",
            ) from error
        schema = pa.schema(table.schema().to_arrow())
    _require_same_schema(place.uri, schema, table.metadata().partition_columns)
    return table


def add_later_columns(table: DeltaTable) -> None:
    """Add the columns that a report of an older crackmodel lacks.

    The files stay as they are, and their rows have null there. Of several processes at once one does it. The
    table is brought up to date.

    Raises:
        DeltaError: The log cannot be read or written.
    """
    if not (lacking := _lacking(table)):
        return
    try:
        table.alter.add_columns(list(Schema.from_arrow(pa.schema(lacking)).fields))
    except DeltaError:
        table.update_incremental()
        if _lacking(table):
            raise


def _lacking(table: DeltaTable) -> list[pa.Field]:
    names = pa.schema(table.schema().to_arrow()).names
    return [REPORT_SCHEMA.field(name) for name in LATER_COLUMNS if name not in names]


def _require_same_schema(uri: str, schema: pa.Schema, partition: Sequence[str]) -> None:
    """Refuse a foreign table, and reports of versions that do not fit."""
    missing = [name for name in REPORT_SCHEMA.names if name not in schema.names]
    extra = [name for name in schema.names if name not in REPORT_SCHEMA.names]
    shared = [name for name in REPORT_SCHEMA.names if name in schema.names]
    differing = [name for name in shared if schema.field(name).type != REPORT_SCHEMA.field(name).type]
    if list(partition) != [PARTITION_COLUMN] or differing or (missing and extra) or "verdict" in missing:
        raise ReportIncompatible(
            f"{uri} is a Delta table, but not a report of crackmodel.",
            "Choose an empty or new folder with --report.",
        )
    if set(missing) - set(LATER_COLUMNS):
        raise ReportIncompatible(
            f"The report at {uri} was made by an older crackmodel and lacks: {', '.join(missing)}.",
            "Score into a new report with --report; the old one stays readable with any Parquet reader.",
        )
    if extra:
        raise ReportIncompatible(
            f"The report at {uri} was made by a newer crackmodel and has more columns: {', '.join(extra)}.",
            "Update crackmodel.",
        )
