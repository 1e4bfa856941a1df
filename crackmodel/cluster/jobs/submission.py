"""Run a command as a job of a cluster: submit, follow, stop.

    Command -> is one at it already? -> submit -> log, line by line -> events, sentences, result or error

A job lives on the cluster and not in this process. Whatever ends this process in order ends the job too;
a SIGKILL does not, and then the next run of the same command takes the job over.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from crackmodel.cluster.jobs.client import KEY, Cluster
from crackmodel.cluster.jobs.command import Command
from crackmodel.cluster.jobs.job_events import JobStarted
from crackmodel.cluster.jobs.log_protocol import RECORDS_VARIABLE
from crackmodel.cluster.jobs.log_reader import Ending, follow
from crackmodel.errors import ClusterError, CrackmodelError
from crackmodel.settings import JobSettings

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

Tell = Callable[[Any], None]

_NOT_FOUND: Final = frozenset({126, 127})
"""How a shell ends that cannot run what it was told to."""


def run_job(command: Command, address: str, kinds: Mapping[str, type], tell: Tell) -> dict[str, Any]:
    """Let a cluster run a command, and wait for it.

    A job that works on the same thing already is waited for first. If it was the same command, it is ours
    from then on: its result is this run's, and it is stopped with this run.

    Args:
        command: What to run.
        address: `http://HEAD:8265`, of the dashboard.
        kinds: The events that the command may tell, by name.
        tell: Gets these, and `JobStarted` and `JobSaid`.

    Returns:
        The command's JSON result.

    Raises:
        ClusterError: The cluster cannot be reached, or the job ended without a result.
        CrackmodelError: What the command itself raised there.
    """
    cluster = Cluster(address)
    entrypoint = command.entrypoint(JobSettings.read().job_python)
    environment = {**command.environment, RECORDS_VARIABLE: "1"}
    for left in cluster.working_on(command.key):
        job = str(left.submission_id)
        ours = _is_same(left, entrypoint, environment)
        with _stopped_with_us(cluster, job) if ours else nullcontext():
            tell(JobStarted(job, cluster.address, resumed=True))
            ending = follow(cluster, job, kinds, tell)
        if ours and ending.result is not None:
            return ending.result
    job = f"crackmodel-{command.name}-{command.key}-{uuid.uuid4().hex[:8]}"
    with _stopped_with_us(cluster, job):
        about = {KEY: command.key, "from": _whereabouts(), **command.subject}
        cluster.submit(job, entrypoint, environment, about)
        tell(JobStarted(job, cluster.address))
        ending = follow(cluster, job, kinds, tell)
    if ending.result is None:
        raise _why(ending, job, cluster.address)
    return ending.result


@contextmanager
def _stopped_with_us(cluster: Cluster, job: str) -> Iterator[None]:
    """Stop a job if the block is left before its end: by Ctrl-C, SIGTERM, a cancelled flow, a time limit."""
    try:
        yield
    except BaseException:
        cluster.stop(job)
        raise


def _is_same(job: JobDetails, entrypoint: str, environment: Mapping[str, str]) -> bool:
    theirs = dict((job.runtime_env or {}).get("env_vars") or {})
    return job.entrypoint == entrypoint and environment.items() <= theirs.items()


def _whereabouts() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"


def _why(ending: Ending, job: str, address: str) -> CrackmodelError:
    if ending.error is not None:
        return ending.error
    if ending.status == "STOPPED":
        return ClusterError(
            f"Somebody stopped job {job} on {address}.",
            "What was committed is safe; run the same command again for the rest.",
        )
    if ending.status == "SUCCEEDED":
        return ClusterError(
            f"Job {job} on {address} ended well, and its result cannot be read from its log.",
            "What it did is kept: score again, which finds nothing left to do and says so, or look for the "
            "trained model with `crackmodel models list`.",
        )
    problem = f"Job {job} on {address} failed: {ending.last_words}."
    if ending.exit_code in _NOT_FOUND:
        return ClusterError(
            problem, "Set CRACKMODEL_JOB_PYTHON to the interpreter on the head that has crackmodel installed."
        )
    return ClusterError(
        problem,
        "What was committed is safe. Read the job's log in the dashboard, check that the head has the same "
        "crackmodel as this machine (CRACKMODEL_JOB_PYTHON names its interpreter), and run it again.",
    )
