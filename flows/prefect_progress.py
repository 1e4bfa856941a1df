"""Show a run in Prefect: log lines and a progress artifact, at most every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextvars import copy_context
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.events import emit_event

from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobSaid, JobStarted
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run_events import (
    ClockBehind,
    CompactionFailed,
    Event,
    ReportCompacted,
    RunPlanned,
    ShardCommitted,
    WorkerLost,
)
from crackmodel.scoring.tally import Tally
from crackmodel.text import printable

TOO_MANY_REJECTED: Final = "crackmodel.survey.too-many-rejected"
"""The event of a survey with more rejected images than allowed; `deploy/automations` listens to it."""

_SECONDS_BETWEEN_CALLS: Final = 5.0
"""Shards come many a second, and each line or change of the artifact is work for Prefect's API."""

_SECONDS_AFTER_FAILURE: Final = 60.0
"""A server that does not answer is not asked again and again."""

_SECONDS_TO_CLOSE: Final = 5.0
"""What the last move of a bar may take of the run's time."""


class ProgressArtifact:
    """A progress bar in Prefect's UI that never delays its run.

    A call to a server that is gone takes Prefect's client a minute or more, so a thread makes the calls, each
    with the newest state. Leaving the block waits a few seconds for the last of them.

    Args:
        key: Name of the artifact.
        log: Gets a warning when the server does not answer.
    """

    def __init__(self, key: str, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._key, self._log = key, log
        self._id: UUID | None = None
        self._not_before = float("-inf")
        self._newest: deque[tuple[float, str]] = deque(maxlen=1)
        self._changed, self._closed = threading.Event(), False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        # The thread has this one's context, which says whose artifact it is.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._send,), name=f"artifact {self._key}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._changed.set()
        if self._thread and time.monotonic() >= self._not_before:
            self._thread.join(_SECONDS_TO_CLOSE)

    def show(self, percent: float, description: str) -> None:
        """Move the bar, soon."""
        self._newest.append((percent, description))
        self._changed.set()

    def _send(self) -> None:
        over = False
        while not over:
            self._changed.wait()
            self._changed.clear()
            over = self._closed
            if self._newest and time.monotonic() >= self._not_before:
                self._call(*self._newest.pop())

    def _call(self, percent: float, description: str) -> None:
        try:
            if self._id is None:
                made = create_progress_artifact(percent, key=self._key, description=description)
                self._id = cast(UUID, made)  # a coroutine only in a coroutine
            else:
                update_progress_artifact(self._id, percent, description=description)
        except Exception as error:  # whatever it is, the run goes on
            self._log.warning("Prefect's server does not take the progress: %s", error)
            self._not_before = time.monotonic() + _SECONDS_AFTER_FAILURE  # nobody waits for the thread now


class PrefectProgress:
    """Listen to a run, and show it in its flow run's log and artifact."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._log = log
        self._artifact = ProgressArtifact("scoring-progress", log)
        self._survey = ""
        self._tally: Tally | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        self._artifact.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log_notices()
        self._artifact.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        """Take the next event of the run."""
        match event:
            case RunPlanned():
                self._survey, self._tally = printable(event.survey), Tally(event)
                self._log.info(
                    "Run %s: %d listed, %d skipped, %d to score with %s into %s",
                    event.run_id, event.listed, event.skipped, event.pending, event.model, event.report,
                )  # fmt: skip
                if event.pending:
                    self._artifact.show(0.0, f"{self._survey}: {event.pending:,} images to score")
            case ShardCommitted() | WorkerLost() if self._tally:
                self._tally.take(event)
                if self._tally.finished or time.monotonic() - self._last >= _SECONDS_BETWEEN_CALLS:
                    self._last = time.monotonic()
                    self._log.info("%s", self._tally.line)
                    self._log_notices()
                    self._artifact.show(self._tally.percent, f"{self._survey}: {self._tally.line}")
            case ClusterAwaited() | ClockBehind() | CompactionFailed():
                self._log.warning("%s", printable(event.text))
            case JobStarted() | JobSaid() | ReportCompacted():
                self._log.info("%s", event.text)

    def _log_notices(self) -> None:
        notices = self._tally.notices() if self._tally else []
        if notices:
            self._log.warning("%s", "\n".join(notices))


def emit_too_many_rejected(result: RunResult) -> None:
    """Emit the event that an automation turns into a message; Prefect adds the flow run."""
    emit_event(
        TOO_MANY_REJECTED,
        resource={
            "prefect.resource.id": f"crackmodel.survey.{result.survey}",
            "prefect.resource.name": result.survey,
        },
        payload={
            "survey": result.survey,
            "rejected": result.rejected,
            "listed": result.listed,
            "reject_codes": result.reject_codes,
            "report": result.report,
            "run_id": result.run_id,
        },
    )
