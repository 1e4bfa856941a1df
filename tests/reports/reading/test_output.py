from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crackmodel.reports.reading.output import LONGEST_TABLE, OutputFormat, write_result
from crackmodel.reports.schema import TIMESTAMP
from crackmodel.text import printable
from tests.reports.rows import NOON

ANSWER = pa.table(
    {
        "image": ["ä/1.jpg", 'b,"2".jpg', "=HYPERLINK(1)"],
        "crack_probability": pa.array([0.9, float("nan"), None], pa.float32()),
        "tile_probabilities": pa.array([[0.1, 0.9], None, []], pa.list_(pa.float32())),
        "scored_at": pa.array([NOON, NOON.replace(microsecond=0), None], TIMESTAMP),
        "latitude": pa.array([51.123456789, float("inf"), None]),
        "crack": [True, False, None],
        "bytes": pa.array([1, 2**40, None], pa.int64()),
    }
)


def text_of(table: pa.Table, output: OutputFormat) -> str:
    stream = io.StringIO()
    write_result(table, output, stream)
    return stream.getvalue()


def test_json_is_one_array_of_objects() -> None:
    first, second, third = json.loads(text_of(ANSWER, "json"))
    assert first == {
        "image": "ä/1.jpg",
        "crack_probability": 0.9,
        "tile_probabilities": [0.1, 0.9],
        "scored_at": "2026-05-04T12:00:00.123457Z",
        "latitude": 51.123456789,
        "crack": True,
        "bytes": 1,
    }
    assert second["crack_probability"] is None
    assert second["latitude"] is None
    assert second["tile_probabilities"] is None
    assert second["scored_at"] == "2026-05-04T12:00:00.000000Z"
    assert second["bytes"] == 2**40
    assert third["tile_probabilities"] == []


def test_empty_answers_are_valid_in_every_format() -> None:
    nothing = ANSWER.slice(0, 0)
    assert json.loads(text_of(nothing, "json")) == []
    assert next(csv.reader(io.StringIO(text_of(nothing, "csv")))) == ANSWER.column_names
    assert "crack_probability" in text_of(nothing, "table")


def test_a_slice_is_written_as_the_slice() -> None:
    rows = json.loads(text_of(pa.concat_tables([ANSWER, ANSWER]).slice(2, 2), "json"))
    assert [row["tile_probabilities"] for row in rows] == [[], [0.1, 0.9]]


def test_columns_of_one_name_all_arrive_in_json() -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert json.loads(text_of(twice, "json")) == [{"n": 1, "n_2": 2}]


def test_anything_sql_can_answer_has_a_json_form() -> None:
    odd = pa.table(
        {
            "date": [date(2026, 5, 4)],
            "naive": pa.array([datetime(2026, 5, 4, 1)], pa.timestamp("us")),
            "struct": [{"a": 1.5, "b": [float("nan")]}],
            "blob": [b"\x00\xff"],
            "decimal": pa.array(["1.50"]).cast(pa.decimal128(5, 2)),
        }
    )
    assert json.loads(text_of(odd, "json")) == [
        {
            "date": "2026-05-04",
            "naive": "2026-05-04T01:00:00",
            "struct": {"a": 1.5, "b": [None]},
            "blob": "00ff",
            "decimal": "1.50",
        }
    ]
    assert "00ff" in text_of(odd, "csv")


def test_csv_comes_back_as_it_was() -> None:
    read = pd.read_csv(io.StringIO(text_of(ANSWER, "csv")), parse_dates=["scored_at"])
    assert read["image"].tolist() == ANSWER["image"].to_pylist()
    assert read["scored_at"][0] == NOON
    assert read["crack_probability"][0] == 0.9
    assert json.loads(read["tile_probabilities"][0]) == [0.1, 0.9]
    assert pd.isna(read["tile_probabilities"][1])
    assert read["bytes"][1] == 2**40


def test_long_csv_has_one_header() -> None:
    many = pa.table({"n": range(25_000)})
    assert pd.read_csv(io.StringIO(text_of(many, "csv")))["n"].tolist() == list(range(25_000))


def test_table_is_aligned_with_four_digits_and_short_lists() -> None:
    long = pa.table({"p": [0.123456], "tiles": [[0.1] * 234], "crack": [True], "nothing": pa.nulls(1)})
    header, _, row = (line.rstrip() for line in text_of(long, "table").splitlines())
    assert header.split() == ["p", "tiles", "crack", "nothing"]
    assert row.split(maxsplit=1)[0] == "0.1235"
    assert "[0.1000, 0.1000, 0.1000, 0.1000, ... 234 in all]" in row
    assert row.endswith("yes")


def test_wide_tables_are_not_cut_in_a_pipe() -> None:
    wide = pa.table({"image": ["x" * 300], "camera": ["y" * 300]})
    assert "x" * 300 in text_of(wide, "table")
    assert "y" * 300 in text_of(wide, "table")


def test_table_stops_after_its_longest_and_says_so() -> None:
    many = pa.table({"n": range(LONGEST_TABLE + 5)})
    lines = text_of(many, "table").splitlines()
    assert lines[-1].startswith("The first 1,000 rows")
    assert lines[-2].strip() == "999"
    assert len(json.loads(text_of(many, "json"))) == LONGEST_TABLE + 5


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2J.jpg", r"a\x1b[2J.jpg"),
        ("a\nb.jpg", r"a\nb.jpg"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("[red]a.jpg[/red]", "[red]a.jpg[/red]"),
        (":warning:.jpg", ":warning:.jpg"),
        ("ä.jpg", "ä.jpg"),
    ],
)
def test_file_names_cannot_act_on_the_terminal(name: str, shown: str) -> None:
    assert text_of(pa.table({"image": [name]}), "table").splitlines()[-1].strip() == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_terminal_without_the_letters_gets_escapes(encoding: str, output: OutputFormat) -> None:
    binary = io.BytesIO()
    terminal = io.TextIOWrapper(binary, encoding=encoding, newline="")
    names = ["bröcke.jpg", "橋.jpg", "\U0001f309.jpg"]
    write_result(pa.table({"größe": names}), output, terminal)
    terminal.flush()
    text = binary.getvalue().decode(encoding)
    if output == "json":
        assert [row["größe"] for row in json.loads(text)] == names
    else:
        assert (names[1] if encoding.startswith("utf") else r"\u6a4b.jpg") in text
        assert (r"br\xf6cke.jpg" if encoding == "ascii" else "bröcke.jpg") in text


def test_names_are_made_printable_without_what_tables_need() -> None:
    modules = "import sys, crackmodel.errors; print({'rich', 'pyarrow', 'duckdb'} & set(sys.modules))"
    child = subprocess.run([sys.executable, "-c", modules], capture_output=True, check=True, timeout=60)
    assert child.stdout.strip() == b"set()"
    assert printable("a\udcfc\x1b\n橋.jpg") == r"a\udcfc\x1b\n橋.jpg"


def test_columns_of_one_name_are_both_in_the_table() -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert text_of(twice, "table").splitlines()[-1].split() == ["1", "2"]


def test_parquet_is_the_table_itself() -> None:
    binary = io.BytesIO()
    write_result(ANSWER, "parquet", binary)
    read: Any = pq.read_table(io.BytesIO(binary.getvalue()))
    assert read.schema == ANSWER.schema
    assert read["bytes"].to_pylist() == [1, 2**40, None]
