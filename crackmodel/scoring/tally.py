"""The progress of a run, summed up for a display."""

from __future__ import annotations

import time
from typing import Final

from crackmodel.scoring.run_events import RunPlanned, ShardCommitted, WorkerLost
from crackmodel.text import printable

_SHOWN_NOTICES: Final = 10

_SLOW_SECONDS: Final = 60.0
_SLOW_FACTOR: Final = 5.0
_SHARDS_TO_COMPARE: Final = 4
"""A shard is slow if it takes a minute, and five times as long a tile as the run's other shards."""


class Tally:
    """Sums up the events of one run.

    Args:
        planned: The run.
    """

    def __init__(self, planned: RunPlanned) -> None:
        self._pending = planned.pending
        self._started = time.monotonic()
        self._done = self._cracks = self._rejected = self._shards = 0
        self._seconds, self._work = 0.0, 0
        self._notices: list[str] = []
        self._left_out = 0
        self._first: tuple[float, int] | None = None

    def take(self, event: ShardCommitted | WorkerLost) -> None:
        """Add an event."""
        if isinstance(event, WorkerLost):
            self._note(event.text)
            return
        for rejection in event.rejections:
            self._note(f"rejected {rejection}")
        if event.rejections:
            self._left_out += event.rejected - len(event.rejections)
        self._check_pace(event)
        self._done = event.done
        self._first = self._first or (time.monotonic(), event.done)
        self._cracks += event.cracks
        self._rejected += event.rejected

    @property
    def finished(self) -> bool:
        """Whether all images are committed."""
        return self._done >= self._pending

    @property
    def percent(self) -> float:
        """Share of the images that are committed."""
        return 100.0 * self._done / self._pending if self._pending else 100.0

    @property
    def found(self) -> str:
        """Images with cracks and rejected images so far."""
        return f"{self._cracks:,} with cracks, {self._rejected:,} rejected"

    @property
    def line(self) -> str:
        """Everything in one line."""
        return f"{self._done:,} of {self._pending:,} images, {self._pace()}{self.found}"

    def _pace(self) -> str:
        """Images a second, during a run since its first commit."""
        if self.finished:
            return f"{self._done / max(time.monotonic() - self._started, 1e-9):,.1f} images/s, "
        if self._first is None or self._done == self._first[1]:
            return ""
        pace = (self._done - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)
        return f"{pace:,.1f} images/s, {(self._pending - self._done) / pace:,.0f} s left, "

    def notices(self) -> list[str]:
        """Return the first ten notices since the last call."""
        notices, left_out = self._notices, self._left_out
        self._notices, self._left_out = [], 0
        return [*notices, f"{left_out:,} more, which the report has"] if left_out else notices

    def _note(self, notice: str) -> None:
        if len(self._notices) < _SHOWN_NOTICES:
            self._notices.append(printable(notice))
        else:
            self._left_out += 1

    def _check_pace(self, event: ShardCommitted) -> None:
        work = max(event.tiles, event.images)
        usual = self._seconds / max(self._work, 1)
        factor = event.seconds / work / usual if usual else 0.0
        if self._shards >= _SHARDS_TO_COMPARE and event.seconds >= _SLOW_SECONDS and factor >= _SLOW_FACTOR:
            longest = max(event.stages, key=lambda stage: event.stages[stage], default="")
            where = f", {event.stages[longest]:,.0f} s of it to {longest}" if longest else ""
            self._note(
                f"{event.images:,} images took {event.seconds:,.0f} s on {event.node}{where}; "
                f"{factor:,.0f} times as long a tile as the others"
            )
        self._shards += 1
        self._seconds += event.seconds
        self._work += work
