"""When a run commits: often, unless committing is slow."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from crackmodel.errors import ClusterError
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.driver import committing
from tests.scoring.conftest import Score, rows


@pytest.mark.parametrize(("seconds", "commits"), [(0.0, 12), (1.0, 2)])
def test_a_run_commits_every_shard_in_time_but_spends_little_of_it(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch, seconds: float, commits: int
) -> None:
    """Of a clock on which scoring takes a second a shard and nothing else any time, but the commits do."""
    now, made = [0.0], 0
    commit, inline = ReportTable.commit, committing.scored_inline

    def slow_commit(table: ReportTable, *arguments: Any, **named: Any) -> None:
        nonlocal made
        made += 1
        now[0] += seconds
        commit(table, *arguments, **named)

    def a_second_each(*arguments: Any) -> Any:
        for shard in inline(*arguments):
            now[0] += 1.0
            yield shard

    monkeypatch.setattr(committing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(committing, "scored_inline", a_second_each)
    monkeypatch.setattr(ReportTable, "commit", slow_commit)

    score(patches, shard_images=1)

    assert made == commits
    assert len(rows(report)) == 12


class TerminationSignal(BaseException):
    """As Prefect raises where a flow is cancelled."""


@pytest.mark.parametrize(
    "stopped_by",
    [KeyboardInterrupt(), TerminationSignal(), ClusterError("Ray is gone.", "Look for it.")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_scored_is_committed_when_the_run_is_stopped(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch, stopped_by: BaseException
) -> None:
    inline = committing.scored_inline

    def stopped(*arguments: Any) -> Any:
        yield from itertools.islice(inline(*arguments), 3)
        raise stopped_by

    monkeypatch.setattr(
        committing, "time", SimpleNamespace(monotonic=lambda: 0.0)
    )  # the first commit is the last
    monkeypatch.setattr(committing, "scored_inline", stopped)

    with pytest.raises(type(stopped_by)):
        score(patches, shard_images=1)
    assert sorted(row["image"] for row in rows(report)) == ["00.jpg", "01.jpg", "02.jpg"]


@pytest.mark.parametrize("committed", [False, True])
def test_a_commit_that_is_interrupted_is_made_once(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    commit, calls = ReportTable.commit, []

    def interrupted(table: ReportTable, *arguments: Any, **named: Any) -> None:
        calls.append([file.path for file in arguments[0]])
        if len(calls) != 2:
            return commit(table, *arguments, **named)
        if committed:
            commit(table, *arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(ReportTable, "commit", interrupted)
    monkeypatch.setattr(committing, "_SECONDS_BETWEEN_COMMITS", 0.0)
    monkeypatch.setattr(committing, "_SCORING_PER_COMMITTING", 0)

    with pytest.raises(KeyboardInterrupt):
        score(patches, shard_images=1)
    assert (len(calls), calls[1]) == (3, calls[2])
    assert sorted(row["image"] for row in rows(report)) == ["00.jpg", "01.jpg"]
    assert len(pd.read_parquet(report)) == 2
