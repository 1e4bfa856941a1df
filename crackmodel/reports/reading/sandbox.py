"""An in-memory DuckDB over Arrow tables that reaches no files, network or Python variables."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from crackmodel.reports.reading.row_order import MACROS

_CLOSED: Final = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@contextmanager
def open_database(
    tables: Mapping[str, Any], views: str = "", *, megabytes: float | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database that sees the given tables and nothing else.

    Times are UTC. What does not fit into memory goes to a folder of its own, removed at the end; not to
    `.tmp` in the current folder, and not to a folder with other people's files, because DuckDB lets
    queries read whatever lies in its temporary folder.

    Args:
        tables: Arrow tables, datasets or scanners by the name they get in SQL.
        views: SQL that builds on them, run before access is closed.
        megabytes: Beyond how much it goes to disk; DuckDB's own limit if None. A query that needs
            more raises `duckdb.OutOfMemoryException`.
    """
    spill = Path(tempfile.gettempdir(), f"crackmodel-sql-{uuid.uuid4().hex}")  # DuckDB makes and removes it
    database = duckdb.connect(":memory:", config={**_CLOSED, "temp_directory": str(spill)})
    try:
        database.execute("SET TimeZone = 'UTC'")
        if megabytes is not None:
            # Each thread needs buffers of its own, and keeping an order takes memory too.
            database.execute(f"SET memory_limit = '{megabytes}MB'; SET threads = 1")
            database.execute("SET preserve_insertion_order = false")
        for name, table in tables.items():
            database.register(name, table)
        database.execute(f"{MACROS}; {views}")
        database.execute("SET enable_external_access = false; SET lock_configuration = true")
        yield database
    finally:
        database.close()
        pa.default_memory_pool().release_unused()  # batches that went by, or they stay for good
