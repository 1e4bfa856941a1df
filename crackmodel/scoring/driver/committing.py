"""Commit scored shards to the report, a few at a time."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from crackmodel.errors import ClusterError, ReportError, SurveyError
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import publish_shard
from crackmodel.scoring.driver.dispatch import scored_inline, scored_on_ray
from crackmodel.scoring.run_events import Listener, ShardCommitted
from crackmodel.scoring.task import ScoringJob, ShardResult

_SECONDS_BETWEEN_COMMITS: Final = 1.0
_SHARDS_PER_COMMIT: Final = 16
_SCORING_PER_COMMITTING: Final = 20
"""A commit costs time that grows with the table's files, so quick shards share one, and commits are at most a
twentieth of a run; a slow shard waits for no other."""


@dataclass(slots=True)
class Totals:
    """Counts of what a run has committed so far."""

    images: int = 0
    cracks: int = 0
    tiles: int = 0
    unfamiliar: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, result: ShardResult) -> None:
        """Add a committed shard."""
        self.images += result.images
        self.cracks += result.cracks
        self.tiles += result.tiles
        self.unfamiliar += result.unfamiliar
        self.rejected += result.rejected

    def counts(self) -> dict[str, Any]:
        """Return the counts as fields of a `RunResult`."""
        rejected = self.rejected.total()
        return {
            "scored": self.images - rejected,
            "cracks": self.cracks,
            "clear": self.images - rejected - self.cracks,
            "rejected": rejected,
            "reject_codes": dict(self.rejected.most_common()),
            "tiles": self.tiles,
        }


def score_and_commit(table: ReportTable, job: ScoringJob, files: pa.Table, on_event: Listener) -> Totals:
    """Score files and commit their shards; also what is scored when stopped."""
    totals = Totals()
    if not files.num_rows:
        return totals
    scored = scored_inline if job.settings.workers == 0 else scored_on_ray
    waiting: list[ShardResult] = []
    last_commit, took = float("-inf"), 0.0

    def commit() -> None:
        nonlocal last_commit, took
        for shard in waiting:
            publish_shard(table.place, shard.file)
        began = time.monotonic()
        table.commit([shard.file for shard in waiting], run_id=job.run_id)
        # In this order: a commit that is interrupted is repeated as it was, or not at all.
        done, waiting[:] = waiting[:], []
        last_commit = time.monotonic()
        took = last_commit - began
        for shard in done:
            totals.add(shard)
            on_event(_committed(job, shard, totals, files.num_rows))

    with closing(scored(job, files, on_event)) as results:
        try:
            for result in results:
                if result is not None:
                    waiting.append(result)
                since = time.monotonic() - last_commit
                enough = since >= _SECONDS_BETWEEN_COMMITS or len(waiting) >= _SHARDS_PER_COMMIT
                if waiting and enough and since >= took * _SCORING_PER_COMMITTING:
                    commit()
        except BaseException as stop:
            # Ctrl-C and a cancelled flow are no `Exception`; any other means that the run itself is wrong.
            orderly = isinstance(stop, ClusterError | SurveyError) or not isinstance(stop, Exception)
            if waiting and orderly:
                with suppress(ReportError):  # why the run stops matters more
                    commit()
            raise
        if waiting:
            commit()
    return totals


def _committed(job: ScoringJob, shard: ShardResult, totals: Totals, pending: int) -> ShardCommitted:
    return ShardCommitted(
        run_id=job.run_id,
        shard=shard.shard,
        images=shard.images,
        cracks=shard.cracks,
        rejected=sum(shard.rejected.values()),
        tiles=shard.tiles,
        done=totals.images,
        pending=pending,
        seconds=shard.seconds,
        node=shard.node,
        stages=shard.stages,
        rejections=shard.rejections,
    )
