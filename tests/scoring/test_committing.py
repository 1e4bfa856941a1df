"""When a run commits: often, unless committing is slow."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crackmodel.reports.table import ReportTable
from crackmodel.scoring import run
from tests.scoring.conftest import Score, rows


@pytest.mark.parametrize(("seconds", "commits"), [(0.0, 12), (1.0, 2)])
def test_a_run_commits_every_shard_in_time_but_spends_little_of_it(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch, seconds: float, commits: int
) -> None:
    """Of a clock on which scoring takes a second a shard and nothing else any time, but the commits do."""
    now, made = [0.0], 0
    commit, inline = ReportTable.commit, run.scored_inline

    def slow_commit(table: ReportTable, *arguments: Any, **named: Any) -> None:
        nonlocal made
        made += 1
        now[0] += seconds
        commit(table, *arguments, **named)

    def a_second_each(*arguments: Any) -> Any:
        for shard in inline(*arguments):
            now[0] += 1.0
            yield shard

    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(run, "scored_inline", a_second_each)
    monkeypatch.setattr(ReportTable, "commit", slow_commit)

    score(patches, shard_images=1)

    assert made == commits
    assert len(rows(report)) == 12
