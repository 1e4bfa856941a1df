"""Flows on a real cluster of two nodes: from inside of it, and as a job from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from crackmodel.reports.reading.query import open_report
from crackmodel.surveys.sample import SampleSurvey
from tests.models.drawings import draw_clear, write_patches
from tests.prefect_server import PrefectServer, stop, until
from tests.ray_cluster import RayCluster, printed, start_cluster

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("prefect")]

_BOTH_FLOWS = """
import json, sys
from flows.score import score
from flows.train import train

survey, slabs, weights, folder = sys.argv[1:]
result = score(survey, report=f"{folder}/report")
version = train([slabs], models=f"{folder}/models", weights=weights, epochs=1, int8=False)
trained = {"model": version.reference, "images": version.card.data.train.images}
print(json.dumps({"scored": result.as_dict(), "trained": trained}))
"""

_SERVE = """
from flows.score import score
score.serve(name="on-a-cluster", pause_on_shutdown=False)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def slabs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many drawn patches that their features are a matter for Ray."""
    folder = tmp_path_factory.mktemp("drawn") / "many-slabs"
    return write_patches(folder, np.random.default_rng(6), 130, edges=(64,))


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """Ten images that take a CPU seconds each."""
    folder = tmp_path / "heavy"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for number in range(10):
        cv2.imwrite(str(folder / f"{number:02}.jpg"), draw_clear(rng, 700))
    return folder


def crackmodel(*arguments: str | Path, cluster: RayCluster, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `crackmodel` outside of the cluster."""
    return subprocess.run(
        [Path(sys.executable).with_name("crackmodel"), *arguments],
        env=cluster.environment(cluster.dashboard) | more,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def jobs(cluster: RayCluster) -> list[dict[str, Any]]:
    """What the cluster says of its jobs, oldest first."""
    import urllib.request

    request = urllib.request.Request(
        f"{cluster.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = [job for job in json.load(answer) if job["type"] == "SUBMISSION"]
    return sorted(found, key=lambda job: job["start_time"])


@pytest.mark.parametrize("way", ["inside", "job"])
def test_both_flows_work_on_a_cluster(
    way: str, cluster: RayCluster, prefect_server: PrefectServer, sample: SampleSurvey, slabs: Path,
    weights: Path, tmp_path: Path,
) -> None:  # fmt: skip
    before = len(jobs(cluster))
    address = cluster.head if way == "inside" else cluster.dashboard
    done = subprocess.run(
        [sys.executable, "-c", _BOTH_FLOWS, sample.directory, slabs, weights, tmp_path],
        env=prefect_server.environment() | cluster.environment(address),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-4000:]
    said = printed(done.stdout)
    scored = said["scored"]
    assert scored["listed"] == scored["scored"] + scored["rejected"] == len(sample.files)
    assert scored["cracks"] > 0
    assert said["trained"]["model"] == "many-slabs@v1"
    rows = open_report(tmp_path / "report").sql("select image, run_id from report").to_pylist()
    assert Counter(row["image"] for row in rows) == Counter(sample.files)
    assert {row["run_id"] for row in rows} == {scored["run_id"]}
    states = [job["status"] for job in jobs(cluster)[before:]]
    assert states == ([] if way == "inside" else ["SUCCEEDED", "SUCCEEDED"])
    # What the run told is in Prefect, whoever did it.
    assert f"Run {scored['run_id']}: {scored['listed']} listed" in logs(prefect_server)


def logs(prefect_server: PrefectServer) -> str:
    """What flows have told this server last."""
    from prefect.client.schemas.sorting import LogSort

    with prefect_server.client() as client:
        return "\n".join(log.message for log in client.read_logs(sort=LogSort.TIMESTAMP_DESC))


def test_neither_a_cancelled_flow_nor_a_killed_one_loses_an_image(
    cluster: RayCluster, prefect_server: PrefectServer, heavy: Path, tmp_path: Path
) -> None:
    from prefect.client.schemas.objects import State, StateType

    report = tmp_path / "report"
    settings = {"tile": 64, "overlap": 48, "workers": 1}
    alone = {"CRACKMODEL_SHARD_IMAGES": "1"}  # which has no option
    environment = prefect_server.environment() | cluster.environment(cluster.dashboard) | alone
    before = len(jobs(cluster))
    serving = subprocess.Popen([sys.executable, "-c", _SERVE], env=environment, stdout=subprocess.DEVNULL)
    try:
        with prefect_server.client() as client:
            deployment = until(lambda: _deployment(client), seconds=300)
            parameters = {"survey": str(heavy), "report": str(report), **settings}
            run = client.create_flow_run_from_deployment(deployment, parameters=parameters)
            until(lambda: _commits(report) >= 1, seconds=300)
            client.set_flow_run_state(run.id, State(type=StateType.CANCELLING))
            until(lambda: _state(client, run).is_final(), seconds=300)
            assert _state(client, run).type == StateType.CANCELLED
    finally:
        stop(serving)
    (cancelled,) = jobs(cluster)[before:]
    assert cancelled["status"] == "STOPPED"
    known = open_report(report).sql("from report").num_rows
    assert 0 < known < 10

    options = [f"--{name}={value}" for name, value in settings.items()]
    killed = subprocess.Popen(
        [sys.executable, "-m", "flows.score", heavy, "--report", report, *options],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: open_report(report).sql("from report").num_rows > known, seconds=300)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    left = jobs(cluster)[-1]
    assert left["status"] == "RUNNING"

    again = crackmodel("score", heavy, "--report", report, *options, "--json", cluster=cluster, **alone)
    assert again.returncode == 0, again.stderr
    assert f"runs already, as job {left['submission_id']}" in again.stderr
    result = json.loads(again.stdout)
    assert (result["listed"], result["skipped"]) == (10, known)
    assert result["scored"] == 10 - known
    rows = open_report(report).sql("from report").to_pylist()
    assert Counter(row["image"] for row in rows) == Counter(path.name for path in heavy.iterdir())
    assert [job["status"] for job in jobs(cluster)[before:]] == ["STOPPED", "SUCCEEDED"]


def _deployment(client: Any) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name("score-survey/on-a-cluster").id
    except ObjectNotFound:
        return None


def _state(client: Any, run: Any) -> Any:
    return client.read_flow_run(run.id).state


def _commits(report: Path) -> int:
    return len(list((report / "_delta_log").glob("*.json"))) - 1 if report.exists() else 0


def test_what_stops_a_job_is_said_here(cluster: RayCluster, tmp_path: Path) -> None:
    done = crackmodel("score", tmp_path / "nowhere", "--report", tmp_path / "report", cluster=cluster)

    assert done.returncode == 1
    problem, _ = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "       "))]
    assert f"{tmp_path}/nowhere" in problem


def test_another_token_is_not_taken(cluster: RayCluster, sample_survey: Path) -> None:
    done = crackmodel("score", sample_survey, cluster=cluster, RAY_AUTH_TOKEN="f" * 64)

    assert done.returncode == 1
    assert "does not take this machine's token" in done.stderr
    assert "Traceback" not in done.stderr
