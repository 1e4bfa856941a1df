"""A connection to a cluster's dashboard, with retries and advice."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from crackmodel.cluster.session import shown_address
from crackmodel.errors import ClusterError
from crackmodel.text import one_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

T = TypeVar("T")

_SECONDS_TO_CONNECT: Final = 10.0
_SECONDS_TO_ANSWER: Final = 30.0
_SECONDS_OF_RETRIES: Final = 60.0
"""A dashboard that restarts is back by then; the job does not notice."""

_SECONDS_TO_STOP: Final = 15
"""For a job to commit what is scored; well within the 30 s that Prefect gives the flow itself."""

_POLL_SECONDS: Final = 0.5

KEY: Final = "crackmodel"
"""The entry of a job's metadata that names its subject."""


class Cluster:
    """The jobs of a cluster.

    Args:
        address: `http://HEAD:8265`, of the dashboard. A name and a password in it are for its proxy alone;
            the attribute `address` lacks them.

    Raises:
        ClusterError: Nothing answers there, it needs another token, or Ray's job submission is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = shown_address(address).rstrip("/")
        self._refused: set[str] = set()
        _require_answer(address)
        try:
            self.client = _connect(address.rstrip("/"))
        except ImportError as error:
            raise _not_installed(error) from error
        except Exception as error:  # Ray's own, Python's, or its HTTP client's
            if "ray[default]" in str(error):
                raise _not_installed(error) from error
            raise self._unusable(error) from error

    def submit(
        self, job: str, entrypoint: str, environment: dict[str, str], metadata: dict[str, str]
    ) -> None:
        """Start a job.

        Args:
            job: Its submission id.
            entrypoint: What a shell on the head runs.
            environment: Variables of the job and of its tasks; the dashboard shows them to everybody.
            metadata: Likewise.

        Raises:
            ClusterError: The cluster did not take it.
        """
        environment = environment | {"RAY_JOB_STOP_WAIT_TIME_S": str(_SECONDS_TO_STOP)}
        try:
            self.client.submit_job(
                entrypoint=entrypoint,
                submission_id=job,
                runtime_env={"env_vars": environment},
                metadata=metadata,
            )
        except Exception as error:
            if not _may_have_arrived(error):
                self._refused.add(job)
            raise self._unusable(error) from error

    def jobs_on(self, key: str) -> list[JobDetails]:
        """List the jobs with a subject that have not ended, oldest first."""
        jobs = self.retried(self.client.list_jobs)
        found = [
            job
            for job in jobs
            if job.submission_id and not job.status.is_terminal() and (job.metadata or {}).get(KEY) == key
        ]
        return sorted(found, key=lambda job: job.start_time or 0)

    def details(self, job: str) -> JobDetails:
        """Return a job's state."""
        return self.retried(lambda: self.client.get_job_info(job))

    def stop(self, job: str) -> None:
        """Stop a job, and wait for its end.

        Repeated until the cluster accepts it: a job that it does not know yet may be on its way. Nothing
        happens where the job was refused or has ended.
        """
        until, accepted = time.monotonic() + _SECONDS_TO_STOP + 5, False
        while job not in self._refused and time.monotonic() < until:
            with suppress(Exception):  # what made the run stop matters more
                accepted = accepted or self.client.stop_job(job)
                if self.client.get_job_info(job).status.is_terminal():
                    return
            time.sleep(_POLL_SECONDS)

    def retried(self, request: Callable[[], T]) -> T:
        """Repeat a request until it succeeds.

        Raises:
            ClusterError: It has failed for a minute, or the token is not the cluster's.
        """
        from ray.exceptions import AuthenticationError

        until = time.monotonic() + _SECONDS_OF_RETRIES
        while True:
            try:
                return request()
            except AuthenticationError as error:
                raise self._unusable(error) from error
            except Exception as error:
                if time.monotonic() > until:
                    raise self._unusable(error) from error
                time.sleep(_POLL_SECONDS)

    def _unusable(self, error: Exception) -> ClusterError:
        from ray.exceptions import AuthenticationError

        if isinstance(error, AuthenticationError):
            return ClusterError(
                f"The cluster at {self.address} does not take this machine's token.",
                "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token that the "
                "head was started with.",
            )
        problem = "does not answer" if isinstance(error, OSError) else f"refuses: {one_line(error, 300)}"
        return ClusterError(
            f"The cluster at {self.address} {problem}.",
            "Check that the head runs and that RAY_ADDRESS is its dashboard's http://HOST:8265. What was "
            "committed is safe; run the same command again.",
        )


def _connect(address: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    for name in ("ray.dashboard.modules.job.sdk", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Client(JobSubmissionClient):
        """Ray's client with a time limit for hosts that do not answer."""

        def _do_request(self, *arguments: Any, **named: Any) -> Any:
            return super()._do_request(*arguments, **{"timeout": _SECONDS_TO_ANSWER} | named)

    return Client(address)


def _require_answer(address: str) -> None:
    """Check that something listens, sooner than the kernel gives up."""
    parts = urlsplit(address)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"Nothing answers at RAY_ADDRESS={shown_address(address)}: {error}.",
            "Check that the head runs with its dashboard, and that the address is http://HOST:8265 as seen "
            "from here; or unset RAY_ADDRESS to use this machine alone.",
        ) from error


def _not_installed(error: Exception) -> ClusterError:
    return ClusterError(
        f"RAY_ADDRESS is a dashboard's address, and Ray's job submission is not installed here ({error}).",
        "In crackmodel's folder: make .venv/.ready-to-develop, or pip install '.[cluster]'.",
    )


def _may_have_arrived(error: Exception) -> bool:
    """Check whether a submission that failed may have started a job."""
    return isinstance(error, OSError) or "status code 5" in str(error)
