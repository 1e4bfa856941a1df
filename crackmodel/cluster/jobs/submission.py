"""Run a command as a job of a cluster: submit, follow, stop.

    command -> does such a job run already? -> submit -> log, line by line -> events, text, result or error

A job does not end with this process by itself. Whatever stops this process in an orderly way stops the job
too; a SIGKILL does not, and then the next run of the same command takes the job over.
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

OnEvent = Callable[[Any], None]

_NOT_FOUND: Final = frozenset({126, 127})
"""Exit codes of a shell that cannot run its command."""


def run_job(command: Command, address: str, kinds: Mapping[str, type], on_event: OnEvent) -> dict[str, Any]:
    """Run a command as a cluster's job, and wait for it.

    A job that works on the same subject already is waited for first. If it runs the same command, this run
    takes it over: it returns its result, and stops it when it is stopped itself.

    Args:
        command: What to run.
        address: `http://HEAD:8265`, of the dashboard.
        kinds: Classes of the events that the command may write, by name.
        on_event: Called with these, and with `JobStarted` and `JobSaid`.

    Returns:
        The command's JSON result.

    Raises:
        ClusterError: The cluster cannot be reached, or the job ended without a result.
        CrackmodelError: What the command itself raised there.
    """
    cluster = Cluster(address)
    entrypoint = command.entrypoint(JobSettings.read().job_python)
    environment = {RECORDS_VARIABLE: "1"}
    for running in cluster.jobs_on(command.key):
        job = str(running.submission_id)
        same = _is_same(running, entrypoint, environment)
        with _stopped_on_error(cluster, job) if same else nullcontext():
            on_event(JobStarted(job, cluster.address, resumed=True))
            ending = follow(cluster, job, kinds, on_event)
        if same and ending.result is not None:
            return ending.result
    job = f"crackmodel-{command.name}-{command.key}-{uuid.uuid4().hex[:8]}"
    submitter = f"{socket.gethostname()}, process {os.getpid()}"
    with _stopped_on_error(cluster, job):
        metadata = {KEY: command.key, "from": submitter, **command.subject}
        cluster.submit(job, entrypoint, environment, metadata)
        on_event(JobStarted(job, cluster.address))
        ending = follow(cluster, job, kinds, on_event)
    if ending.result is None:
        raise _failure(ending, job, cluster.address)
    return ending.result


@contextmanager
def _stopped_on_error(cluster: Cluster, job: str) -> Iterator[None]:
    """Stop a job if the block raises, also by SIGTERM."""
    try:
        yield
    except BaseException:
        cluster.stop(job)
        raise


def _is_same(job: JobDetails, entrypoint: str, environment: Mapping[str, str]) -> bool:
    variables = dict((job.runtime_env or {}).get("env_vars") or {})
    return job.entrypoint == entrypoint and environment.items() <= variables.items()


def _failure(ending: Ending, job: str, address: str) -> CrackmodelError:
    if ending.error is not None:
        return ending.error
    if ending.status == "STOPPED":
        return ClusterError(
            f"Somebody stopped job {job} on {address}.",
            "What was committed is safe; run the same command again for the rest.",
        )
    if ending.status == "SUCCEEDED":
        return ClusterError(
            f"Job {job} on {address} succeeded, but its result cannot be read from its log.",
            "What it did is kept: score again, which finds nothing left to do, or look for the trained model "
            "with `crackmodel models list`. Install the same version of crackmodel there and here.",
        )
    problem = f"Job {job} on {address} failed: {ending.last_line}."
    if ending.exit_code in _NOT_FOUND:
        return ClusterError(
            problem, "Set CRACKMODEL_JOB_PYTHON to the interpreter on the head that has crackmodel installed."
        )
    return ClusterError(
        problem,
        "What was committed is safe. Read the job's log in the dashboard, check that the head has the same "
        "crackmodel as this machine (CRACKMODEL_JOB_PYTHON names its interpreter), and run it again.",
    )
