"""A run leaves few files behind, and a compaction that fails is nothing that a run fails for."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from crackmodel.cli.progress import ProgressBar
from crackmodel.errors import ReportWriteFailed
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.table import ReportTable
from crackmodel.scoring import run
from crackmodel.scoring.run_events import CompactionFailed, Event, ReportCompacted
from tests.scoring.conftest import Score


def files(report: Path) -> int:
    return len(list(report.glob("survey=*/*.parquet")))


def test_many_small_files_are_put_together_after_the_run(patches: Path, report: Path, score: Score) -> None:
    events: list[Event] = []
    result = score(patches, shard_images=2, compact_after=6, on_event=events.append)

    assert events[-1] == ReportCompacted(result.run_id, "patches", 6, 1)
    assert files(report) == 1
    assert len(pd.read_parquet(report)) == result.scored == 12
    again = score(patches, compact_after=6)
    assert (again.skipped, files(report)) == (12, 1)


@pytest.mark.parametrize("compact_after", [7, 0])
def test_few_files_stay_and_zero_means_never(
    patches: Path, report: Path, score: Score, compact_after: int
) -> None:
    score(patches, shard_images=2, compact_after=compact_after)
    assert files(report) == 6


def test_next_run_deletes_what_a_killed_compaction_replaced(
    patches: Path, report: Path, score: Score
) -> None:
    score(patches, shard_images=2)
    compact(ReportTable.open(report), "patches", keep_hours=1)
    assert files(report) == 7

    score(patches, keep_hours=1)
    assert files(report) == 7
    score(patches)
    assert files(report) == 1


def test_failing_compaction_is_told_and_fails_nothing(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ReportWriteFailed("The disk is full.", "Free some space.")

    monkeypatch.setattr(run, "compact", fail)
    events: list[Event] = []
    result = score(patches, shard_images=2, compact_after=6, on_event=events.append)

    assert result.scored == 12
    assert events[-1] == CompactionFailed(result.run_id, "patches", "The disk is full.", "Free some space.")
    log = io.StringIO()
    with ProgressBar(log) as progress:
        progress(events[-1])
    assert log.getvalue() == "warning: The disk is full. Free some space.\n"
