"""The shipped deployments on a real server, run by a real process worker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from crackmodel import open_report
from crackmodel.surveys.sample import SampleSurvey
from flows.serving.stop_runs import runs_of
from tests.deploy.manifests import compose
from tests.prefect_server import PrefectServer, stop, until

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_POOL = "crackmodel"


def _deploy(server: PrefectServer) -> None:
    """Do what containers do at every start."""
    command = compose({"CRACKMODEL_SURVEYS": "/srv/surveys"})["services"]["prefect-deploy"]["command"]
    environment = server.environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        command, cwd=_CHECKOUT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer) -> dict[str, DeploymentResponse]:
    """What `prefect deploy --all` made of the shipped file, by name."""
    _deploy(prefect_server)
    with prefect_server.client() as client:
        names = ("nightly/nightly", "score-survey/on-demand", "train-model/training")
        return {name: client.read_deployment_by_name(name) for name in names}


@pytest.fixture(scope="module")
def worker(
    prefect_server: PrefectServer, deployed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", _POOL, "--type", "process"]
    log = tmp_path_factory.mktemp("worker") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=_CHECKOUT, env=prefect_server.environment(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    except AssertionError as error:
        error.add_note(log.read_text(errors="replace")[-6000:])
        raise
    finally:
        stop(process)


def test_the_shipped_deployments_describe_their_parameters_and_limits(
    deployed: dict[str, DeploymentResponse],
) -> None:
    for deployment in deployed.values():
        schema = deployment.parameter_openapi_schema or {}
        undescribed = [name for name, value in schema["properties"].items() if not value.get("description")]
        assert not undescribed
        assert deployment.description
        assert deployment.enforce_parameter_schema
        assert "crackmodel" in deployment.tags
        assert deployment.work_pool_name == _POOL
        assert deployment.global_concurrency_limit
        assert deployment.global_concurrency_limit.limit == 1
    strategies = {
        name: deployment.concurrency_options and deployment.concurrency_options.collision_strategy.value
        for name, deployment in deployed.items()
    }
    (schedule,) = deployed["nightly/nightly"].schedules
    assert strategies == {
        "nightly/nightly": "CANCEL_NEW",
        "score-survey/on-demand": "ENQUEUE",
        "train-model/training": "ENQUEUE",
    }
    assert schedule.active
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * *", "Europe/Berlin")  # type: ignore[union-attr]


def test_what_is_paused_stays_paused_when_it_is_deployed_again(
    prefect_server: PrefectServer, deployed: dict[str, DeploymentResponse]
) -> None:
    from prefect.client.schemas.actions import WorkPoolUpdate

    nightly = deployed["nightly/nightly"].id
    (schedule,) = deployed["nightly/nightly"].schedules
    with prefect_server.client() as client:
        client.update_deployment_schedule(nightly, schedule.id, active=False)
        client.update_work_pool(_POOL, WorkPoolUpdate(is_paused=True))
        try:
            _deploy(prefect_server)
            (again,) = client.read_deployment(nightly).schedules
            pool = client.read_work_pool(_POOL)
        finally:
            client.update_deployment_schedule(nightly, schedule.id, active=True)
            client.update_work_pool(_POOL, WorkPoolUpdate(is_paused=False))

    assert (again.id, again.active) == (schedule.id, False)
    assert pool.is_paused


def test_a_cron_deployment_gets_runs_by_itself(
    prefect_server: PrefectServer, deployed: dict[str, DeploymentResponse]
) -> None:
    runs = until(lambda: _runs(prefect_server, deployed["nightly/nightly"].id), seconds=60)

    assert all(run.auto_scheduled for run in runs)
    assert all(run.state and run.state.is_scheduled() for run in runs)


@pytest.mark.parametrize(
    ("name", "parameters", "word"),
    [
        ("score-survey/on-demand", {}, "survey"),
        ("score-survey/on-demand", {"survey": "/srv/surveys/a", "tile": 5}, "5"),
        ("score-survey/on-demand", {"survey": "/srv/surveys/a", "engine": "steam"}, "steam"),
        ("nightly/nightly", {"rise": 7}, "7"),
        ("nightly/nightly", {"overlap": -3}, "-3"),
        ("train-model/training", {"datasets": ["/srv/walls"], "mode": "guess"}, "guess"),
    ],
)
def test_the_server_refuses_parameters_that_make_no_sense(
    name: str,
    parameters: dict[str, Any],
    word: str,
    prefect_server: PrefectServer,
    deployed: dict[str, DeploymentResponse],
) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    with prefect_server.client() as client, pytest.raises(PrefectHTTPStatusError) as refused:
        client.create_flow_run_from_deployment(deployed[name].id, parameters=parameters)

    assert refused.value.response.status_code == 409
    assert word in refused.value.response.text


def test_a_worker_scores_a_survey_on_demand(
    prefect_server: PrefectServer,
    deployed: dict[str, DeploymentResponse],
    worker: subprocess.Popen[bytes],
    sample_survey: Path,
    tmp_path: Path,
) -> None:
    report = tmp_path / "report"
    parameters = {"survey": str(sample_survey), "report": str(report), "workers": 0}
    with prefect_server.client() as client:
        run = client.create_flow_run_from_deployment(
            deployed["score-survey/on-demand"].id, parameters=parameters
        )
        until(lambda: _is_final(client.read_flow_run(run.id)), seconds=180)
        ended = client.read_flow_run(run.id)

    assert ended.state
    assert ended.state.is_completed(), ended.state.message
    assert ended.name == f"score {sample_survey}"
    assert _rows(report) > 0


def test_nights_that_are_late_become_one_on_the_worker(
    prefect_server: PrefectServer,
    deployed: dict[str, DeploymentResponse],
    worker: subprocess.Popen[bytes],
    sample: SampleSurvey,
    tmp_path: Path,
) -> None:
    from datetime import UTC, datetime, timedelta

    from prefect.states import Scheduled

    (tmp_path / "surveys" / "bridge-07").mkdir(parents=True)
    shutil.copy(
        sample.directory / min(set(sample.files) - set(sample.rejected)), tmp_path / "surveys" / "bridge-07"
    )
    report = tmp_path / "report"
    parameters = {"root": str(tmp_path / "surveys"), "report": str(report), "workers": 0}
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with prefect_server.client() as client:
        nightly = deployed["nightly/nightly"].id
        late = [
            client.create_flow_run_from_deployment(
                nightly, parameters=parameters, state=Scheduled(scheduled_time=yesterday)
            ).id
            for _ in range(3)
        ]
        until(lambda: all(_is_final(client.read_flow_run(run)) for run in late), seconds=180)
        ends = sorted(str(client.read_flow_run(run).state_name) for run in late)

    assert ends == ["Cancelled", "Cancelled", "Completed"]
    assert _rows(report) == 1


def test_a_worker_s_runs_can_be_ended_before_it(
    prefect_server: PrefectServer,
    deployed: dict[str, DeploymentResponse],
    worker: subprocess.Popen[bytes],
    sample: SampleSurvey,
    tmp_path: Path,
) -> None:
    survey = tmp_path / "survey"
    survey.mkdir()
    picture = sample.directory / min(set(sample.files) - set(sample.rejected))
    for number in range(5_000):  # minutes of work
        (survey / f"{number}.jpg").hardlink_to(picture)
    parameters = {"survey": str(survey), "report": str(tmp_path / "report"), "workers": 0}
    with prefect_server.client() as client:
        run = client.create_flow_run_from_deployment(
            deployed["score-survey/on-demand"].id, parameters=parameters
        )
        until(lambda: _is_running(client.read_flow_run(run.id)), seconds=180)

        # What the unit and the containers do before they stop a worker.
        drained = subprocess.run(
            [sys.executable, "-m", "flows.serving.stop_runs", str(worker.pid)],
            cwd=_CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

        assert (drained.returncode, drained.stderr) == (0, "")
        until(lambda: _is_final(client.read_flow_run(run.id)), seconds=10)
        ended = client.read_flow_run(run.id)
    assert ended.state
    assert ended.state.is_crashed(), ended.state
    assert runs_of(worker.pid) == []
    assert worker.poll() is None


def _runs(server: PrefectServer, deployment: UUID) -> list[FlowRun]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    with server.client() as client:
        return client.read_flow_runs(deployment_filter=chosen)


def _is_running(run: FlowRun) -> bool:
    return bool(run.state and run.state.is_running())


def _is_final(run: FlowRun) -> bool:
    return bool(run.state and run.state.is_final())


def _rows(report: Path) -> int:
    return int(open_report(report).sql("select count(*) as n from report").to_pandas()["n"][0])
