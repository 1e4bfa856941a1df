"""What all flows share: how their tasks and errors are, and how the command line runs them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import (
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from crackmodel.errors import CrackmodelError

P = ParamSpec("P")
T = TypeVar("T")

_LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs")
"""Where Prefect writes the traceback of whatever a flow or a task raises, once for each."""


def run_task(
    name: str, task_run_name: str | Callable[[], str] | None = None
) -> Callable[[Callable[P, T]], Task[P, T]]:
    """Make a function a Prefect task that is never repeated.

    Ray repeats a shard whose worker died, and what fails after that fails again.
    """
    return task(
        name=name, task_run_name=task_run_name, retries=0, cache_policy=NO_CACHE, persist_result=False
    )


class _WithoutTraceback(logging.Filter):
    """Replaces the traceback of an expected error by its message."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CrackmodelError):
            record.msg, record.args = "%s", (error,)
            record.exc_info = record.exc_text = None
        return True


def log_errors_without_traceback() -> None:
    """Leave tracebacks of crackmodel's own errors out of Prefect's logs."""
    for name in _LOGGERS:
        log = logging.getLogger(name)
        if not any(isinstance(known, _WithoutTraceback) for known in log.filters):
            log.addFilter(_WithoutTraceback())


log_errors_without_traceback()  # a worker's process loads the flows, and calls nothing here


def run_embedded(flow: Callable[[], T]) -> T:
    """Call a flow; without `PREFECT_API_URL` on a server of its own.

    Prefect starts that server on loopback for as long as the flow runs. It sends no telemetry, and has time
    to start on a busy machine.
    """
    embedded = temporary_settings(
        {
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    )
    with embedded:
        return flow()
