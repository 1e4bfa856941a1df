from __future__ import annotations

import pytest

from crackmodel.errors import UsageError
from crackmodel.reports.schema import FILE_SCHEMA, KEY_COLUMNS, REPORT_SCHEMA, partition_folder
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import write_shard
from tests.reports.rows import build_rows, make_rejected, make_row


def test_a_file_has_every_column_but_the_survey() -> None:
    assert [*FILE_SCHEMA.names, "survey"] == [*REPORT_SCHEMA.names[1:], REPORT_SCHEMA.names[0]]


def test_key_columns_may_not_be_null() -> None:
    assert not any(REPORT_SCHEMA.field(name).nullable for name in KEY_COLUMNS)


def test_a_required_column_cannot_be_left_out(table: ReportTable) -> None:
    row = make_row()
    del row["verdict"]
    with pytest.raises(ValueError, match="verdict"):
        write_shard(table.uri, "bridge", "run-1", 0, build_rows([row]))


@pytest.mark.parametrize("words", [{"reject_code": "unlucky"}, {"reject_stage": "listing"}], ids=str)
def test_a_code_or_stage_that_is_not_documented_cannot_be_written(
    table: ReportTable, words: dict[str, str]
) -> None:
    (name,) = words
    with pytest.raises(ValueError, match=f"{name}.*{words[name]}"):
        write_shard(table.uri, "bridge", "run-1", 0, build_rows([make_rejected(**words)]))


@pytest.mark.parametrize("name", ["bridge", "bridge-07", "2026.05", "A_b", "-", "x" * 100])
def test_safe_survey_names_are_paths_as_they_are(name: str) -> None:
    assert partition_folder(name) == f"survey={name}"


@pytest.mark.parametrize(
    "name", ["", ".hidden", "_log", "a/b", "..", "a b", "a%20b", "brücke", "a=b", "a\n", "a\x00", "x" * 101]
)
def test_names_that_paths_would_change_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        partition_folder(name)
