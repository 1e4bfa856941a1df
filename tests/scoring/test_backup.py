"""A copy of a report, made as docs/operations.md says, while runs score and compact it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.reading.changes import compare_unannounced
from crackmodel.reports.reading.run_statistics import rows_by_run
from crackmodel.reports.survey_notes import mark_announced, read_announced
from crackmodel.reports.table import ReportTable
from tests.scoring.conftest import Score, rows


def test_a_copy_with_its_log_first_is_whole_and_is_gone_on_with(
    patches: Path, report: Path, score: Score, tmp_path: Path
) -> None:
    copy = tmp_path / "backup"
    score(patches, limit=8, shard_images=2)
    shutil.copytree(report / "_delta_log", copy / "_delta_log")
    score(patches, shard_images=2, compact_after=4, keep_hours=24)
    table = ReportTable.open(report)
    mark_announced(table.place, "patches", rows_by_run(table, "patches"))
    shutil.copytree(report, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_delta_log"))

    found = check_report(ReportTable.open(copy))
    assert found.rows == 8
    assert (found.findings, found.uncommitted > 0) == ((), True)  # what came too late for the copy

    gone_on = score(patches, report=copy, shard_images=2)
    assert (gone_on.skipped, gone_on.scored) == (8, 4)
    assert Counter(row["image"] for row in rows(copy)) == Counter(path.name for path in patches.iterdir())
    assert not check_report(ReportTable.open(copy)).findings
    news = compare_unannounced(
        ReportTable.open(copy), "patches", read_announced(ReportTable.open(copy).place, "patches") or {}
    )
    assert news.runs == {gone_on.run_id: 4}
