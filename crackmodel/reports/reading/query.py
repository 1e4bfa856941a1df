"""SQL over a report that can neither change it nor reach anything else.

`crackmodel.reports.reading.views` defines the views; `docs/report.md` is their reference.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from crackmodel.errors import QueryError, ReportError
from crackmodel.reports.reading.dataset import UNREADABLE, committed_rows
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.reading.views import VIEWS
from crackmodel.reports.table import ReportTable
from crackmodel.storage.advice import first_line, remedy

_DEFINITIONS: Final = ";".join(f"CREATE VIEW {name} AS {body}" for name, body in VIEWS.items())

_RAW_POINTERS: Final = re.compile(r"python_arrow_scan|pandas_scan", re.IGNORECASE)
"""Functions that take memory addresses; a wrong one ends the process."""


class Report:
    """A report as it was when `open_report` opened it; later commits do not show.

    Closing it, or using it as a context manager, frees the memory and temporary files of its database.
    Only one thread at a time may use it; open another for another thread.

    Attributes:
        uri: Absolute local path or object store URI of the report.
        version: Number of the commit that is shown.
    """

    def __init__(self, table: ReportTable) -> None:
        self.uri = table.uri
        self.version = table.version
        self._rows = committed_rows(table)
        self._resources = ExitStack()
        self._database = self._resources.enter_context(
            open_database({"report_rows": self._rows}, _DEFINITIONS)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what queries need; `sql` cannot be used any more."""
        self._resources.close()

    def rows(self) -> ds.Dataset:
        """Return every row as a dataset with `REPORT_SCHEMA`; `.to_table(columns=..., filter=...)` reads."""
        return self._rows

    def sql(self, query: str, limit: int | None = None) -> pa.Table:
        """Answer one SELECT over the views of `VIEWS`.

        The SQL is DuckDB's. Files, network, settings and extensions are out of its reach. Times are UTC.
        With `limit` only so many rows of the answer are computed, the first ones.

        Example:
            >>> open_report("report").sql("SELECT verdict, count(*) AS images FROM latest GROUP BY verdict")

        Raises:
            QueryError: Not one SELECT, a mistake in it, or something it may not do.
            ReportError: The query is right, but a file of the report cannot be read.
        """
        _require_one_select(query)
        try:
            answer = self._database.sql(query)
            return answer.to_arrow_table() if limit is None else _first(answer, limit)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise _explain(error, query, self.uri, self._database) from error


def open_report(uri: str | Path) -> Report:
    """Open an existing report for reading; creates nothing.

    Raises:
        ReportNotFound: Nothing is there.
        ReportIncompatible: The place holds something else.
    """
    return Report(ReportTable.open(uri))


def _first(answer: duckdb.DuckDBPyRelation, limit: int) -> pa.Table:
    """Stop reading after some rows; DuckDB's own `limit` renames columns and fails on comments."""
    with answer.to_arrow_reader(max(limit, 1)) as reader:
        batches = []
        missing = limit
        for batch in reader:
            batches.append(batch.slice(0, missing))
            missing -= batches[-1].num_rows
            if not missing:
                break
        return pa.Table.from_batches(batches, reader.schema)


def _require_one_select(query: str) -> None:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise QueryError(
            f"The SQL cannot be understood: {_message(error)}.",
            "Write one SELECT statement, for example: SELECT * FROM latest WHERE verdict = 'crack'.",
        ) from error
    if len(statements) != 1:
        raise QueryError(
            f"The SQL has {len(statements)} statements where one is expected.",
            "Write one SELECT statement; WITH ... SELECT joins several steps into one.",
        )
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(
            f"A report can only be read, and this is not a SELECT but a {kind.name} statement.",
            "Write one SELECT statement; a PIVOT goes into parentheses, SELECT * FROM (PIVOT ...); "
            "to save an answer, use --format csv or parquet.",
        )
    if _RAW_POINTERS.search(query):
        raise QueryError(
            "The SQL names a function that reads raw memory.",
            f"Read from the views: {', '.join(VIEWS)}.",
        )


def _explain(
    error: Exception, query: str, uri: str, database: duckdb.DuckDBPyConnection
) -> QueryError | ReportError:
    """Turn a failure into an error that says what to do."""
    if isinstance(error, duckdb.PermissionException):
        return QueryError(
            "The SQL names files, and a report's SQL sees the report alone.",
            f"Read from the views: {', '.join(VIEWS)}.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(
            f"The answer does not fit into memory: {_message(error)}.",
            "Select fewer columns or rows; tile_probabilities is the largest column by far.",
        )
    if isinstance(error, OSError) or "No such file" in str(error) or "FileNotFound" in str(error):
        return ReportError(
            f"A file of the report at {uri} cannot be read: {first_line(error)}.",
            remedy(error, UNREADABLE),
        )
    known = "; ".join(_columns(name, database) for name in VIEWS if re.search(rf"\b{name}\b", query))
    return QueryError(
        f"The SQL cannot be answered: {_message(error)}.",
        f"The views are {', '.join(VIEWS)}. {known}{'.' if known else ''}".rstrip(),
    )


def _columns(view: str, database: duckdb.DuckDBPyConnection) -> str:
    names = [row[0] for row in database.sql(f"DESCRIBE {view}").fetchall()]
    return f"Columns of {view}: {', '.join(names)}"


def _message(error: Exception) -> str:
    """Return DuckDB's message on one line, without the excerpt of the query."""
    text = str(error).split("\n\nLINE", 1)[0]
    return " ".join(text.split()).rstrip("?. ")
