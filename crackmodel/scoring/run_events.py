"""The events of a run.

Progress bars, logs and Prefect artifacts all listen to the same events; the core prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobEvent


@dataclass(frozen=True, slots=True)
class RunPlanned:
    """The survey is listed, and scoring is about to start."""

    run_id: str
    survey: str
    report: str
    model: str
    listed: int
    skipped: int
    pending: int


@dataclass(frozen=True, slots=True)
class ShardCommitted:
    """The rows of one shard are committed to the report.

    `images` and `tiles` belong to this shard; `done` of `pending` images are committed so far. `stages` are
    its `seconds` on `node` by stage; `rejections` names the first of its rejected images.
    """

    run_id: str
    shard: int
    images: int
    cracks: int
    rejected: int
    tiles: int
    done: int
    pending: int
    seconds: float = 0.0
    node: str = ""
    stages: Mapping[str, float] = field(default_factory=dict)
    rejections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A shard's worker died or hung; the shard is cut in two."""

    run_id: str
    shard: int
    images: int
    first: str

    @property
    def text(self) -> str:
        """Whose worker is gone, and what becomes of the images."""
        if self.images > 1:
            what = f"{self.images:,} images from {self.first} on"
            return f"the worker of {what} died or hung; they are tried in halves"
        return f"the worker of {self.first} alone died or hung; it is tried in a process of its own"


@dataclass(frozen=True, slots=True)
class ClockBehind:
    """This machine's clock lies `seconds` behind the survey's newest run."""

    run_id: str
    newest: str
    seconds: float

    @property
    def text(self) -> str:
        """Say what to do about it."""
        return (
            f"this machine's clock is {self.seconds:,.0f} s behind the survey's newest run, {self.newest}; "
            f"set the clock that is wrong. Nothing is lost: run {self.run_id} is named to follow that one"
        )


@dataclass(frozen=True, slots=True)
class ReportCompacted:
    """The survey's small files were compacted."""

    run_id: str
    survey: str
    files_before: int
    files_after: int

    @property
    def text(self) -> str:
        """The number of files before and after."""
        return f"{self.survey}: {self.files_before:,} files are now {self.files_after:,}"


@dataclass(frozen=True, slots=True)
class CompactionFailed:
    """Files could not be deleted or compacted; the run has lost nothing."""

    run_id: str
    survey: str
    problem: str
    remedy: str

    @property
    def text(self) -> str:
        """What is wrong, and what to do."""
        return f"{self.problem} {self.remedy}"


Event = (
    RunPlanned
    | ShardCommitted
    | WorkerLost
    | ClusterAwaited
    | ClockBehind
    | ReportCompacted
    | CompactionFailed
    | JobEvent
)
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore all events."""
