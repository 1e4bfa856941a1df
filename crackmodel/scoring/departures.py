"""Images that the report knows and the survey has no more: what became of them, and how the report says so.

A row is never deleted. A newer row of the same image, rejected as `moved` or `vanished`, takes its place in
the view `latest`, so that no crack counts twice because its photograph was renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from crackmodel.reports.table import ReportTable
from crackmodel.reports.writer import publish_shard
from crackmodel.scoring.shards import ListedFile, Shard
from crackmodel.scoring.worker import ScoringJob, reject_shard

_STAGE = "list"


@dataclass(frozen=True, slots=True)
class Departures:
    """How many images are gone.

    Attributes:
        moved: Their content has another name now, under which it was scored.
        missing: Their content is not known to be anywhere; their rows stay in `latest` unless they were to
            be marked.
    """

    moved: int = 0
    missing: int = 0


def record_departures(
    table: ReportTable, job: ScoringJob, listing: pa.Table, *, mark_missing: bool, sequence: int
) -> Departures:
    """Find the survey's images that are gone, and write rows for those that moved, or for all.

    Args:
        table: The report; the run's own rows are committed.
        job: The run.
        listing: What the survey holds, as in `ReportTable.pending`.
        mark_missing: Write rows for those that are missing, too.
        sequence: Number of the commit.

    Raises:
        ReportError: The report cannot be read or written.
    """
    gone = table.gone(listing, survey=job.survey.name)
    if not gone.num_rows:
        return Departures()
    moved = [row for row in gone.to_pylist() if row["now"] is not None]
    missing = [row for row in gone.to_pylist() if row["now"] is None]
    written = []
    if moved:
        details = [f"the same content is called {row['now']} now" for row in moved]
        written.append(reject_shard(job, _shard(moved), "moved", details, _STAGE))
    if missing and mark_missing:
        written.append(reject_shard(job, _shard(missing), "vanished", "no longer in the survey", _STAGE))
    for result in written:
        publish_shard(table.uri, result.file)
    table.commit([result.file for result in written], run_id=job.run_id, sequence=sequence)
    return Departures(len(moved), len(missing))


def _shard(rows: list[dict[str, object]]) -> Shard:
    return Shard(0, tuple(ListedFile(row["image"], row["bytes"], row["modified_at"]) for row in rows))  # type: ignore[arg-type]
