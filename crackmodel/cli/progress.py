"""Show long work: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobSaid, JobStarted
from crackmodel.models.training.training_events import FeaturesExtracted, TrainingEvent
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

_SECONDS_BETWEEN_LINES: Final = 10.0


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f} images/s" if task.speed else "")


class ProgressBar:
    """Listen to a run and show images done, rate and time left on a stream.

    On a terminal a bar moves; elsewhere a line is written every few seconds at most, so that the log of a
    nightly run stays readable.
    """

    def __init__(self, stream: TextIO, *, seconds_between_lines: float = _SECONDS_BETWEEN_LINES) -> None:
        self._stream, self._pause = stream, seconds_between_lines
        self._console = Console(file=stream)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[found]}", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tally: Tally | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Take the next event of the run."""
        match event:
            case RunPlanned():
                self._tally = Tally(event)
                self._last_line = time.monotonic()
                self._bar.add_task(f"Scoring {event.survey}", total=event.pending, found="")
                self._line(f"{event.survey}: {event.listed:,} listed, {event.pending:,} to score")
            case ShardCommitted() if self._tally:
                self._tally.take(event)
                for task in self._bar.task_ids:
                    self._bar.update(task, completed=event.done, found=self._tally.found)
                if time.monotonic() - self._last_line >= self._pause:
                    self._line(self._tally.line)
            case WorkerLost() | ClusterAwaited() | ClockBehind() | CompactionFailed():
                self._warn(event.text)
            case JobStarted() | JobSaid():
                self._console.print(event.text, markup=False, highlight=False, soft_wrap=True)
            case ReportCompacted():
                self._line(event.text)

    def _warn(self, text: str) -> None:
        self._console.print(printable(f"warning: {text}"), markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            print(text, file=self._stream, flush=True)
            self._last_line = time.monotonic()


class TrainingLines:
    """Listen to a training and write a line for each thing that happened."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_line = float("-inf")

    def __call__(self, event: TrainingEvent) -> None:
        """Take the next event of the training."""
        if isinstance(event, FeaturesExtracted) and event.done < event.total:
            if time.monotonic() - self._last_line < _SECONDS_BETWEEN_LINES:
                return
            self._last_line = time.monotonic()
        print(event.text, file=self._stream, flush=True)
