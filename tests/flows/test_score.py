"""The scoring flow on an embedded Prefect: run names, states that tell the truth, artifacts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


def test_the_flow_scores_and_leaves_two_artifacts(prefect: None, sample_survey: Path, tmp_path: Path) -> None:
    from prefect.artifacts import Artifact

    from flows.score import score

    result = score(str(sample_survey), report=str(tmp_path / "report"), workers=0)

    assert result.listed == result.scored + result.rejected
    summary, top = Artifact.get("score-summary"), Artifact.get("top-detections")
    assert summary
    assert top
    assert f"{result.listed:,}" in str(summary.data)
    table = json.loads(str(top.data))
    assert [row["image"] for row in table] == [image.image for image in result.top]
    assert table[0]["crack probability"] == pytest.approx(result.top[0].crack_probability, abs=1e-4)


def test_the_run_is_named_after_its_survey_and_nothing_is_retried(
    prefect_server: PrefectServer, sample_survey: Path, tmp_path: Path
) -> None:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    from flows.score import publish_summary, score, score_shards

    with prefect_server.client() as client:
        score(str(sample_survey), report=str(tmp_path / "report"), workers=0)
        named = FlowRunFilter(name=FlowRunFilterName(any_=[f"score {sample_survey}"]))
        assert client.read_flow_runs(flow_run_filter=named)

    assert score_shards.retries == publish_summary.retries == score.retries == 0


def test_a_missing_survey_fails_the_run_with_our_words(prefect: None, tmp_path: Path) -> None:
    from crackmodel.errors import SurveyError
    from flows.score import score

    with pytest.raises(SurveyError, match="nowhere"):
        score(str(tmp_path / "nowhere"), report=str(tmp_path / "report"), workers=0)


def test_too_many_rejected_images_fail_the_run_after_all_is_scored(
    prefect: None, sample_survey: Path, tmp_path: Path
) -> None:
    from flows.score import score

    state = score(
        str(sample_survey), report=str(tmp_path / "report"), workers=0, max_rejected=1, return_state=True
    )

    assert state.is_failed()
    assert "--max-rejected" in str(state.message)
    assert score(str(sample_survey), report=str(tmp_path / "report"), workers=0).scored == 0


def test_python_m_flows_score_needs_no_server(sample_survey: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = subprocess.run(
        [sys.executable, "-m", "flows.score", sample_survey, "--report", report, "--workers", "0"],
        cwd=_CHECKOUT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "crackmodel query" in done.stdout


def test_python_m_flows_score_exits_with_1_on_a_missing_survey(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.score", tmp_path / "nowhere", "--report", tmp_path / "report"],
        cwd=_CHECKOUT, capture_output=True, text=True, timeout=300, check=False,
        env=prefect_server.environment(),
    )  # fmt: skip

    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr  # Prefect's, of the task's and of the flow's error
    assert done.stderr.count("There is no folder") >= 2  # in their logs it is said all the same


def test_a_wrong_option_is_said_before_any_server_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.score", tmp_path, "--overlap", "500"],
        cwd=_CHECKOUT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")},
    )  # fmt: skip

    assert done.returncode == 2
    assert "--overlap" in done.stderr
    assert "server" not in done.stderr
