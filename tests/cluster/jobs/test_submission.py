"""Which job a command follows, starts and stops, on a cluster that is made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from crackmodel.cluster.jobs import submission
from crackmodel.cluster.jobs.command import Command
from crackmodel.cluster.jobs.job_events import JobSaid, JobStarted
from crackmodel.errors import ClusterError, SurveyError

_SCORE = Command("score", ("--report=/r", "--", "/photos"), {"survey": "photos", "report": "/r"})
_FORCED = Command("score", ("--report=/r", "--force", "--", "/photos"), _SCORE.subject)
_RESULT = '@result {"run_id": "r1"}\n'
_THEIRS = '@result {"run_id": "theirs"}\n'
_RAY_JSON = '{"asctime": "2026-11-25 02:00:00,000", "levelname": "INFO", "message": "Shutting down."}\n'
_FAILURE = '@SurveyError {"problem": "No folder /photos.", "remedy": "Mount it."}\n'


class MadeUp:
    """A cluster whose jobs have written all they will write."""

    address = "http://head:8265"

    def __init__(self, log: str = _RESULT, status: str = "SUCCEEDED", exit_code: int | None = 0) -> None:
        self.client = self
        self.jobs: dict[str, Any] = {}
        self.logs: dict[str, str] = {}
        self.stopped: list[str] = []
        self._next = (log, status, exit_code)

    def submit(self, job: str, entrypoint: str, environment: dict[str, str], about: dict[str, str]) -> None:
        log, status, exit_code = self._next
        self.logs[job] = log
        self.jobs[job] = SimpleNamespace(
            submission_id=job, entrypoint=entrypoint, runtime_env={"env_vars": environment}, metadata=about,
            status=_Status(status), driver_exit_code=exit_code, message="",
        )  # fmt: skip

    def leave(self, command: Command, log: str) -> None:
        """Have a job of somebody else's."""
        python = submission.JobSettings.read().job_python
        self.submit("left", command.entrypoint(python), {"CRACKMODEL_RECORDS": "1"}, {})
        self.logs["left"] = log

    def jobs_on(self, key: str) -> list[Any]:
        return [job for name, job in self.jobs.items() if name == "left"]

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        yield self.logs[job]

    def get_job_logs(self, job: str) -> str:
        return self.logs[job]

    def details(self, job: str) -> Any:
        return self.jobs[job]

    def retried(self, ask: Callable[[], Any]) -> Any:
        return ask()

    def stop(self, job: str) -> None:
        self.stopped.append(job)


class _Status(str):
    __slots__ = ()

    def is_terminal(self) -> bool:
        return True


def run(cluster: MadeUp, command: Command = _SCORE, tell: Callable[[Any], None] = lambda _: None) -> Any:
    """Run a command on a cluster that is made up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission, "Cluster", lambda address: cluster)
        return submission.run_job(command, cluster.address, {}, tell)


def test_the_same_command_takes_a_job_over_that_was_left() -> None:
    cluster = MadeUp()
    cluster.leave(_SCORE, _THEIRS)
    told: list[Any] = []

    assert run(cluster, tell=told.append) == {"run_id": "theirs"}
    assert told == [JobStarted("left", cluster.address, resumed=True)]
    assert cluster.jobs.keys() == {"left"}


@pytest.mark.parametrize(("left", "log"), [(_FORCED, _THEIRS), (_SCORE, _FAILURE)], ids=["another", "failed"])
def test_another_command_or_one_that_failed_is_followed_by_our_own(left: Command, log: str) -> None:
    cluster = MadeUp()
    cluster.leave(left, log)
    told: list[Any] = []

    assert run(cluster, tell=told.append) == {"run_id": "r1"}
    assert [(event.job == "left", event.resumed) for event in told] == [(True, True), (False, False)]


@pytest.mark.parametrize("left", [True, False])
def test_whatever_interrupts_us_stops_the_job(left: bool) -> None:
    cluster = MadeUp()
    if left:
        cluster.leave(_SCORE, _RESULT)

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, tell=interrupt)
    assert cluster.stopped == list(cluster.jobs)


def test_somebody_else_s_job_is_waited_for_and_not_stopped() -> None:
    cluster = MadeUp()
    cluster.leave(_FORCED, _RESULT)

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, tell=interrupt)
    assert cluster.jobs.keys() == {"left"}
    assert cluster.stopped == []


def test_a_job_s_own_error_is_raised_here() -> None:
    with pytest.raises(SurveyError, match="No folder /photos") as caught:
        run(MadeUp(log=_FAILURE, status="FAILED", exit_code=1))
    assert caught.value.remedy == "Mount it."


@pytest.mark.parametrize(
    ("log", "status", "exit_code", "said"),
    [
        ("", "STOPPED", None, "Somebody stopped job"),
        ("sh: 1: /none/python: not found\n", "FAILED", 127, "Set CRACKMODEL_JOB_PYTHON"),
        ("No module named crackmodel\n", "FAILED", 1, "failed: No module named crackmodel. What was"),
        ('{"level": "info"}\nKilled\n', "FAILED", -9, "failed: Killed. What was"),
        ("", "SUCCEEDED", 0, "succeeded, but its result cannot be read"),
    ],
)
def test_a_job_without_a_result_is_an_error_that_says_why(
    log: str, status: str, exit_code: int | None, said: str
) -> None:
    with pytest.raises(ClusterError, match=said):
        run(MadeUp(log=log, status=status, exit_code=exit_code))


def test_more_rejected_images_than_allowed_are_no_reason_to_lose_the_result() -> None:
    refusal = '@TooManyRejected {"problem": "5 of 9 files.", "remedy": "See why."}\n'

    assert run(MadeUp(log=_RESULT + refusal, status="FAILED", exit_code=3)) == {"run_id": "r1"}


@pytest.mark.parametrize("log", [_RESULT + _RAY_JSON, _RAY_JSON + _RESULT], ids=["after", "before"])
def test_ray_s_own_json_in_the_log_is_no_result(log: str) -> None:
    told: list[Any] = []

    assert run(MadeUp(log=log), tell=told.append) == {"run_id": "r1"}
    assert told[1:] == [JobSaid(_RAY_JSON.strip())]


def test_ray_s_own_json_alone_is_no_result() -> None:
    with pytest.raises(ClusterError, match="its result cannot be read"):
        run(MadeUp(log=_RAY_JSON))


def test_what_a_job_says_to_people_comes_in_one_piece_and_cannot_act_on_a_terminal() -> None:
    told: list[Any] = []
    run(MadeUp(log=f"a\tb\n\nc \x1b[31m\n{_RESULT}d"), tell=told.append)

    assert told[1:] == [JobSaid("a       b\nc \\x1b[31m\nd")]
