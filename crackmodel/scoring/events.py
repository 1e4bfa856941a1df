"""What happens during a run, as frozen records.

Progress bars, logs and Prefect artifacts all listen to the same events; the core prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunPlanned:
    """The survey is listed and compared with the report; scoring is about to start."""

    run_id: str
    survey: str
    report: str
    model: str
    listed: int
    skipped: int
    pending: int


@dataclass(frozen=True, slots=True)
class ShardCommitted:
    """The rows of one shard are in the report for good.

    `images` and `tiles` belong to this shard; `done` of `pending` images are committed so far.
    """

    run_id: str
    shard: int
    images: int
    cracks: int
    rejected: int
    tiles: int
    done: int
    pending: int


@dataclass(frozen=True, slots=True)
class ReportCompacted:
    """The survey had so many small files that they were put together."""

    run_id: str
    survey: str
    files_before: int
    files_after: int


@dataclass(frozen=True, slots=True)
class CompactionFailed:
    """The survey has many small files, and could not be compacted; the run has lost nothing."""

    run_id: str
    survey: str
    problem: str
    remedy: str


Event = RunPlanned | ShardCommitted | ReportCompacted | CompactionFailed
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
