"""A report in a temporary folder, and a way to commit rows to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile, publish_shard, write_shard
from tests.reports.rows import build_rows

Commit = Callable[[Sequence[dict[str, Any]]], ShardFile]


@pytest.fixture
def table(tmp_path: Path) -> ReportTable:
    """An empty report."""
    return ReportTable.open_or_create(tmp_path / "report")


@pytest.fixture
def commit(table: ReportTable) -> Commit:
    """Write, publish and commit rows as one shard of the survey that the first row names."""
    numbers = iter(range(1000))

    def commit_rows(rows: Sequence[dict[str, Any]]) -> ShardFile:
        number = next(numbers)
        survey, run_id = rows[0]["survey"], rows[0]["run_id"]
        file = write_shard(table.uri, survey, run_id, number, build_rows(rows))
        publish_shard(table.uri, file)
        table.commit([file], run_id=run_id)
        return file

    return commit_rows
