"""What a flow run's page shows of a run: few calls of Prefect's API, and no run stops for one that fails."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from crackmodel.scoring.run_events import RunPlanned, ShardCommitted
from flows import prefect_progress
from flows.prefect_progress import PrefectProgress

_LOG = logging.getLogger("tests.progress")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The percentages that reach the API."""
    seen: list[float] = []

    def call(*arguments: Any, **named: Any) -> UUID:
        seen.append(next(argument for argument in arguments if isinstance(argument, float)))
        return uuid4()

    monkeypatch.setattr(prefect_progress, "create_progress_artifact", call)
    monkeypatch.setattr(prefect_progress, "update_progress_artifact", call)
    return seen


def score_a_thousand_shards(tell: PrefectProgress) -> None:
    tell(RunPlanned("run", "deck", "report", "builtin@v1", listed=9_000, skipped=0, pending=1_000))
    for shard in range(1_000):
        tell(
            ShardCommitted(
                "run", shard, images=1, cracks=0, rejected=1, tiles=0, done=shard + 1, pending=1_000,
                rejections=(f"{shard}.jpg: empty, it has no bytes",),
            )
        )  # fmt: skip


def test_a_thousand_shards_are_few_calls_and_few_lines(
    calls: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), PrefectProgress(_LOG) as tell:
        score_a_thousand_shards(tell)

    assert calls in ([0.0, 100.0], [100.0])  # the newest, where there are several
    planned, done, rejected = (record.getMessage() for record in caplog.records)
    assert "9000 listed" in planned
    assert done.startswith("1,000 of 1,000 images")
    assert rejected.startswith("rejected 0.jpg: empty")
    assert rejected.endswith("990 more, which the report has")


def test_what_was_not_told_yet_is_told_when_a_run_stops(
    calls: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with PrefectProgress(_LOG) as tell:
        tell(RunPlanned("run", "deck", "report", "builtin@v1", listed=9, skipped=0, pending=9))
        tell(ShardCommitted("run", 0, 1, 0, 1, 0, done=1, pending=9, rejections=("a.jpg: empty, why",)))
        assert not caplog.records
    assert caplog.records[-1].getMessage() == "rejected a.jpg: empty, why"


def test_a_server_that_does_not_answer_is_told_once_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> UUID:
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(prefect_progress, "create_progress_artifact", refuse)
    with PrefectProgress(_LOG) as tell:
        score_a_thousand_shards(tell)

    assert [record.getMessage() for record in caplog.records if "nobody there" in record.getMessage()] == [
        "Prefect's server does not take the progress: nobody there"
    ]


@pytest.mark.timeout(60)
def test_a_server_that_is_silent_holds_no_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def be_silent(*_: Any, **__: Any) -> UUID:
        asked.set()
        answered.wait()
        return uuid4()

    monkeypatch.setattr(prefect_progress, "create_progress_artifact", be_silent)
    monkeypatch.setattr(prefect_progress, "_SECONDS_TO_CLOSE", 0.1)
    with PrefectProgress(_LOG) as tell:
        score_a_thousand_shards(tell)
        assert asked.wait(10)

    answered.set()


@pytest.mark.integration
def test_the_flow_run_has_a_bar_that_reaches_its_end(
    prefect: None, sample_survey: Path, tmp_path: Path
) -> None:
    from prefect.artifacts import Artifact

    from flows.score import score

    result = score(str(sample_survey), report=str(tmp_path / "report"), workers=0)

    bar = Artifact.get("scoring-progress")
    assert bar
    assert bar.data == 100.0
    assert f"{result.listed:,} of {result.listed:,} images" in str(bar.description)
