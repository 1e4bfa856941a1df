"""Read a job's log while it is written, then how it ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final

from crackmodel.cluster.jobs.client import Cluster
from crackmodel.cluster.jobs.job_events import JobSaid
from crackmodel.cluster.jobs.log_protocol import read_record
from crackmodel.errors import ClusterError, CrackmodelError, TooManyRejected
from crackmodel.text import printable

_POLL_SECONDS: Final = 0.5
"""How long a signal or a time limit may have to wait."""

_SECONDS_BETWEEN_TEXTS: Final = 5.0
"""Lines for people come together: each event may be a call to Prefect."""

_LONGEST_TEXT: Final = 50_000

_WITH_RESULT: Final = frozenset({0, TooManyRejected.exit_code})
"""Exit codes of a command that has printed its result."""

_SECONDS_OF_SILENCE: Final = 60.0
"""After so long without a line the log is requested anew: a head without power closes no connection, nor
does a firewall that forgets one."""


@dataclass(slots=True)
class Ending:
    """How a job ended.

    Attributes:
        status: `SUCCEEDED`, `FAILED` or `STOPPED`.
        exit_code: Of its command; None where that did not end by itself.
        result: The result of a command that was successful; None without one.
        error: The error that stopped the command; None if there was none, or it could not be written.
        last_line: The log's last line for people, or Ray's message.
    """

    status: str = ""
    exit_code: int | None = None
    result: dict[str, Any] | None = None
    error: CrackmodelError | None = None
    last_line: str = "it printed nothing"


def follow(cluster: Cluster, job: str, kinds: Mapping[str, type], on_event: Any) -> Ending:
    """Read a job's log until the job has ended.

    Args:
        cluster: Where it runs.
        job: Its submission id.
        kinds: Classes of the events that may be in it, by name.
        on_event: Called in this thread, with these and every few seconds with `JobSaid`.

    Raises:
        ClusterError: The cluster does not answer any more.
    """
    chunks: SimpleQueue[str | BaseException | None] = SimpleQueue()
    # In a thread, so that signals reach the caller meanwhile, who may have an event loop.
    threading.Thread(
        target=lambda: asyncio.run(_tail(cluster, job, chunks)), name=f"log of {job}", daemon=True
    ).start()
    ending = Ending()
    reader = _Reader(kinds, on_event, ending)
    try:
        while (chunk := _next(chunks)) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            reader.read(chunk)
    finally:
        reader.close()
    details = cluster.details(job)
    ending.status, ending.exit_code = str(details.status), details.driver_exit_code
    if ending.exit_code not in _WITH_RESULT:
        ending.result = None  # the command failed after it
    if ending.exit_code is None and details.message:
        ending.last_line = " ".join(details.message.split())[:300].rstrip(".")
    return ending


def _next(chunks: SimpleQueue[str | BaseException | None]) -> str | BaseException | None:
    while True:
        try:
            return chunks.get(timeout=_POLL_SECONDS)
        except Empty:
            return ""  # so that waiting lines are passed on


async def _tail(cluster: Cluster, job: str, chunks: SimpleQueue[str | BaseException | None]) -> None:
    """Put a job's log into a queue, then None or an error."""
    seen = 0
    try:
        while True:
            position = 0
            try:
                async with asyncio.timeout(_SECONDS_OF_SILENCE) as limit:
                    async for text in cluster.client.tail_job_logs(job):
                        limit.reschedule(asyncio.get_running_loop().time() + _SECONDS_OF_SILENCE)
                        new = text[max(0, seen - position) :]  # a new connection begins from the beginning
                        position += len(text)
                        seen = max(seen, position)
                        if new:
                            chunks.put(new)
            except Exception:  # no line, or the dashboard was restarted or is gone: the next request shows it
                await asyncio.sleep(_POLL_SECONDS)
            if cluster.details(job).status.is_terminal():
                break
            await asyncio.sleep(_POLL_SECONDS)
        # The result is in the last lines, and a connection that breaks off behind the dashboard looks like
        # one that has come to its end.
        with suppress(ClusterError):
            chunks.put(cluster.retried(lambda: cluster.client.get_job_logs(job))[seen:])
    except BaseException as error:
        chunks.put(error)
    else:
        chunks.put(None)


@dataclass(slots=True)
class _Reader:
    """Passes records on at once, and lines for people together."""

    kinds: Mapping[str, type]
    on_event: Any
    ending: Ending
    rest: str = ""
    lines: list[str] = field(default_factory=list)
    passed_on: float = field(default_factory=time.monotonic)

    def read(self, text: str) -> None:
        *whole, self.rest = (self.rest + text).split("\n")
        for line in whole:
            self._take(line)
        if time.monotonic() - self.passed_on >= _SECONDS_BETWEEN_TEXTS:
            self._pass_on()

    def close(self) -> None:
        if self.rest:
            self._take(self.rest)
            self.rest = ""
        self._pass_on()

    def _take(self, line: str) -> None:
        record = read_record(line, self.kinds)
        if isinstance(record, CrackmodelError):
            self.ending.error = record
        elif isinstance(record, dict):
            self.ending.result = record
        elif record is not None:
            self.on_event(record)
        elif line.strip():
            self.lines.append(printable(line.expandtabs()))
            self.ending.last_line = " ".join(line.split())[:300].rstrip(".")

    def _pass_on(self) -> None:
        self.passed_on = time.monotonic()
        if self.lines:
            text, self.lines = "\n".join(self.lines), []
            self.on_event(JobSaid(text[-_LONGEST_TEXT:]))
