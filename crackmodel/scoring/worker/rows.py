"""Write the rows of a shard to a file, to be committed."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from crackmodel import __version__
from crackmodel.models.preprocessing import preprocess_fingerprint
from crackmodel.reports.schema import REPORT_SCHEMA
from crackmodel.reports.writing.shard_file import write_shard
from crackmodel.scoring.plan import Shard
from crackmodel.scoring.task import ScoringJob, ShardResult
from crackmodel.scoring.worker.ood import is_unfamiliar
from crackmodel.scoring.worker.stages import StageWatch

_NAMED_REJECTIONS: Final = 3
"""How many rejected images of a shard are named in its result; the report has them all."""


def reject_shard(
    job: ScoringJob, shard: Shard, code: str, detail: str | Sequence[str], stage: str = "score"
) -> ShardResult:
    """Write rows for images that are rejected without being read.

    Args:
        job: The run.
        shard: The images.
        code: Why.
        detail: The reason in words; one for all or one for each.
        stage: Where they were rejected.

    Raises:
        ReportWriteFailed: The storage does not take the file; nothing half-written is left.
    """
    details = [detail] * len(shard.files) if isinstance(detail, str) else detail
    rejected = {"verdict": "rejected", "reject_code": code, "reject_stage": stage}
    common = common_columns(job) | rejected
    rows = [
        common | file._asdict() | {"reject_detail": why, "scored_at": datetime.now(UTC)}
        for file, why in zip(shard.files, details, strict=True)
    ]
    return write_rows(job, shard, rows, time.monotonic(), StageWatch())


def write_rows(
    job: ScoringJob, shard: Shard, rows: list[dict[str, Any]], started: float, watch: StageWatch
) -> ShardResult:
    """Write a shard's rows to one hidden Parquet file; count them.

    Args:
        job: The run.
        shard: Its images, in the order of the rows.
        rows: A dictionary of the report's columns for each image; what is absent is null.
        started: `time.monotonic()` when the shard was begun.
        watch: The times of its stages.

    Raises:
        ReportWriteFailed: As `score_shard`.
    """
    table = pa.Table.from_pylist(rows, schema=REPORT_SCHEMA)
    written = write_shard(job.report, job.survey.name, job.run_id, shard.number, table)
    watch.lap("write")
    verdicts = Counter(str(row["verdict"]) for row in rows)
    rejected = [row for row in rows if row["verdict"] == "rejected"]
    return ShardResult(
        shard=shard.number,
        file=written,
        images=len(rows),
        cracks=verdicts["crack"],
        rejected=Counter(str(row["reject_code"]) for row in rejected),
        tiles=sum(len(row.get("tile_probabilities", ())) for row in rows),
        unfamiliar=sum(is_unfamiliar(row) for row in rows),
        seconds=time.monotonic() - started,
        stages=watch.seconds,
        rejections=tuple(
            f"{row['image']}: {row['reject_code']}, {row['reject_detail']}"
            for row in rejected[:_NAMED_REJECTIONS]
        ),
        node=platform.node(),
    )


def common_columns(job: ScoringJob) -> dict[str, Any]:
    """Return the columns that all rows of a run share."""
    return {
        "survey": job.survey.name,
        "model": job.model.reference,
        "model_sha256": job.model.sha256,
        "engine": job.model.engine,
        "preprocess": preprocess_fingerprint(job.settings.tile, job.settings.overlap),
        "software": f"crackmodel {__version__}",
        "run_id": job.run_id,
        "threshold": job.model.threshold,
    }
