"""Mark images that are gone from the survey as moved or vanished.

A row is never deleted. A newer row of the same image, rejected as `moved` or `vanished`, takes its place in
the view `latest`, so that no crack counts twice because its photograph was renamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from crackmodel.reports.reading.incremental import gone_images
from crackmodel.reports.schema import DEPARTED_STAGE
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import publish_shard
from crackmodel.scoring.plan import Shard, listed_files
from crackmodel.scoring.task import ScoringJob, ShardResult
from crackmodel.scoring.worker.rows import reject_shard

_ROWS_PER_FILE: Final = 20_000
"""Whoever renames a folder moves all images in it at once; as Python objects a million take 1.7 GB."""


def record_departures(table: ReportTable, job: ScoringJob, listing: pa.Table) -> tuple[int, int]:
    """Find images that are gone, and mark those that moved.

    With `mark_missing` all are marked. The rows of others stay in the view `latest`.

    Args:
        table: The report; the run's own rows are committed.
        job: The run.
        listing: What the survey holds, as in `incremental.pending`.

    Returns:
        The number of images whose content has another name now, and of those whose content is nowhere.

    Raises:
        ReportError: The report cannot be read or written.
    """
    gone = gone_images(table, listing, job.survey.name)
    moved = gone.filter(pc.is_valid(gone["now"]))
    missing = gone.filter(pc.is_null(gone["now"]))
    for result in _rejected(job, moved, missing if job.settings.mark_missing else missing.slice(0, 0)):
        publish_shard(table.place, result.file)
        table.commit([result.file], run_id=job.run_id)
    return moved.num_rows, missing.num_rows


def _rejected(job: ScoringJob, moved: pa.Table, vanished: pa.Table) -> Iterator[ShardResult]:
    """Write files of a bounded number of rows."""
    for some in _slices(moved):
        details = [f"the same content is called {now} now" for now in some["now"].to_pylist()]
        yield reject_shard(job, _shard(some), "moved", details, DEPARTED_STAGE)
    for some in _slices(vanished):
        yield reject_shard(job, _shard(some), "vanished", "no longer in the survey", DEPARTED_STAGE)


def _slices(rows: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, rows.num_rows, _ROWS_PER_FILE):
        yield rows.slice(start, _ROWS_PER_FILE)


def _shard(rows: pa.Table) -> Shard:
    return Shard(0, tuple(listed_files(rows)))
