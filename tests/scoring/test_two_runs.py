"""Two runs of one survey at once where nothing can be locked, as in an object store."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from crackmodel.errors import ReportBusy
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run_events import Event, RunPlanned
from tests.scoring.conftest import Score


def test_one_wins_the_other_names_it_and_a_rerun_finishes(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReportTable, "lock", lambda *_: nullcontext())
    winner: list[RunResult] = []

    def overtake(event: Event) -> None:
        if isinstance(event, RunPlanned):  # the other run knows what is to score, and has scored nothing
            winner.append(score(patches, limit=5))

    with pytest.raises(ReportBusy) as busy:
        score(patches, on_event=overtake)

    assert winner[0].run_id in busy.value.problem
    assert len(pd.read_parquet(report)) == 5
    rerun = score(patches)
    assert (rerun.skipped, rerun.scored) == (5, 7)
    assert pd.read_parquet(report)["image"].is_unique
    assert len(pd.read_parquet(report)) == 12
