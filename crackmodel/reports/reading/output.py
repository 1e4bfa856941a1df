"""Write a query's answer for a person or for a program.

Data are not altered: import a CSV file into a spreadsheet as text, since a photograph may be called `=...`.
Only the table for the terminal shows control characters as escapes, because they would act there.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Any, BinaryIO, Final, Literal, TextIO, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crackmodel.text import printable

OutputFormat = Literal["table", "json", "csv", "parquet"]

LONGEST_TABLE: Final = 1000
"""Most rows that the `table` format shows; the other formats write all."""

_LONGEST_LIST: Final = 4
_BATCH: Final = 10_000


def write_result(table: pa.Table, output: OutputFormat, target: TextIO | BinaryIO) -> None:
    r"""Write a table to a stream.

    Args:
        table: Any Arrow table; times with a time zone are written in UTC.
        output: `table`: aligned text, at most `LONGEST_TABLE` rows, long lists abbreviated, four digits.
            `json`: one array of objects, times as ISO 8601 with `Z`, NaN and infinity as null.
            `csv`: header and rows, lists and structures as JSON, times as in `json`, null as nothing.
            `parquet`: the table as it is, compressed with zstd.
        target: A text stream; for `parquet` a binary one. What its encoding has no letters for is escaped, as
            `\u6a4b` or in the way of JSON.

    Raises:
        OSError: The target cannot be written.
    """
    if output == "parquet":
        pq.write_table(table, target, compression="zstd")
    else:
        if isinstance(target, io.TextIOWrapper):
            target.reconfigure(errors="backslashreplace")  # `LANG=C` has no umlauts
        {"table": _write_aligned, "json": _write_json, "csv": _write_csv}[output](table, cast(TextIO, target))
    target.flush()


def _write_json(table: pa.Table, stream: TextIO) -> None:
    takes_all = (stream.encoding or "utf-8").lower().startswith("utf")
    stream.write("[")
    for number, record in enumerate(_records(_exact_decimals(table))):
        stream.write(",\n " if number else "\n ")
        json.dump(record, stream, ensure_ascii=not takes_all, allow_nan=False)
    stream.write("\n]\n" if table.num_rows else "]\n")


def _write_csv(table: pa.Table, stream: TextIO) -> None:
    for number, start in enumerate(range(0, max(table.num_rows, 1), _BATCH)):
        part = _flat(_exact_decimals(table.slice(start, _BATCH)))
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(part, sink, pa.csv.WriteOptions(include_header=number == 0))
        stream.write(sink.getvalue().to_pybytes().decode("utf-8"))


def _write_aligned(table: pa.Table, stream: TextIO) -> None:
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, column in zip(table.column_names, table.columns, strict=True):
        numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        grid.add_column(
            Text(printable(name)), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric
        )
    for record in _records(table.slice(0, LONGEST_TABLE), names=[str(i) for i in range(table.num_columns)]):
        grid.add_row(*(Text(_cell(value)) for value in record.values()))
    width = None if stream.isatty() else 100_000
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    console.print(grid)
    if table.num_rows > LONGEST_TABLE:
        console.print(f"The first {LONGEST_TABLE:,} rows; use LIMIT, or another format to get all of them.")


def _records(table: pa.Table, names: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows as JSON values; a column name that comes twice is numbered."""
    renamed = table.rename_columns(names or _distinct(table.column_names))
    for batch in renamed.to_batches(max_chunksize=_BATCH):
        for record in batch.to_pylist():
            yield {name: _plain(value) for name, value in record.items()}


def _distinct(names: list[str]) -> list[str]:
    taken: dict[str, int] = {}
    distinct = []
    for name in names:
        taken[name] = taken.get(name, 0) + 1
        distinct.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return distinct


def _plain(value: Any) -> Any:
    """Convert a value to one that JSON has."""
    match value:
        case float():
            plain: Any = value if math.isfinite(value) else None
        case None | bool() | int() | str():
            plain = value
        case datetime() if value.tzinfo is not None:
            # One width: pandas guesses from the first.
            plain = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        case date() | time():
            plain = value.isoformat()
        case dict():
            plain = {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            plain = [_plain(item) for item in value]
        case bytes():
            plain = value.hex()
        case _:
            plain = str(value)
    return plain


def _exact_decimals(table: pa.Table) -> pa.Table:
    """Convert 32 bit floats so that 0.9 is written as 0.9, not as 0.8999999761581421."""
    text, exact = pa.string(), pa.float64()
    for index, column in enumerate(table.columns):
        kind, name = column.type, table.field(index).name
        if pa.types.is_float32(kind):
            table = table.set_column(index, name, column.cast(text).cast(exact))
        elif pa.types.is_list(kind) and pa.types.is_float32(kind.value_type):
            table = table.set_column(index, name, column.cast(pa.list_(text)).cast(pa.list_(exact)))
    return table


def _flat(table: pa.Table) -> pa.Table:
    """Convert every column to what CSV can hold."""
    for index, column in enumerate(table.columns):
        kind = column.type
        plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string)
        if not any(is_kind(kind) for is_kind in plain):
            cells = [_csv_cell(value) for value in column.to_pylist()]
            table = table.set_column(index, table.field(index).name, pa.array(cells, pa.string()))
    return table


def _csv_cell(value: Any) -> str | None:
    plain = _plain(value)
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _cell(value: Any) -> str:
    """Format a value for a table on the terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        shown = ", ".join(_cell(item) for item in value[:_LONGEST_LIST])
        return f"[{shown}, ... {len(value)} in all]" if len(value) > _LONGEST_LIST else f"[{shown}]"
    return printable(str(value))
