"""Score one shard: fetch, decode, tile, run the model, write one Parquet file.

Everything here runs inside a Ray task or, with `--workers 0`, in the caller's process. A worker loads
numpy, OpenCV, pyarrow and LiteRT, and neither TensorFlow nor the table format.
"""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa

from crackmodel.errors import ImageRejected
from crackmodel.models.preprocessing import preprocess_fingerprint
from crackmodel.reports.schema import REPORT_SCHEMA
from crackmodel.reports.writer import ShardFile, write_shard
from crackmodel.scoring.fetching import Fetched, fetch_ahead
from crackmodel.scoring.pictures import ModelFile, OnFeatures, PictureScorer, cached_engine, rejection
from crackmodel.scoring.shards import ListedFile, Shard
from crackmodel.scoring.stages import StageWatch
from crackmodel.scoring.unfamiliar import DistanceMeter, is_unfamiliar
from crackmodel.surveys.images import DecodeLimits, read_photograph
from crackmodel.surveys.listing import Survey, open_location

_IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""A file that is called an image and is none was damaged or misnamed; any other is no loss."""

_NAMED_REJECTIONS: Final = 3
"""How many rejected images of a shard are told by name; the report has them all."""


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What all shards of a run share; `image_seconds` is the longest that an image may take on a worker."""

    run_id: str
    survey: Survey
    report: str
    model: ModelFile
    tile: int
    overlap: int
    limits: DecodeLimits
    software: str
    image_seconds: float


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard: the file that waits for its commit, counts, and what a log should say.

    `stages` are seconds by stage, see `stages.STAGES`; `rejections` are its first rejected images, and why.
    """

    shard: int
    file: ShardFile
    images: int
    cracks: int
    rejected: Counter[str]
    tiles: int
    seconds: float
    unfamiliar: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    rejections: tuple[str, ...] = ()
    node: str = ""


def score_shard(job: ScoringJob, shard: Shard, on_image: Callable[[], None] = lambda: None) -> ShardResult:
    """Score every image of a shard and write its rows to one hidden Parquet file.

    A bad image becomes a `rejected` row. The file becomes part of the report when the driver publishes
    and commits it.

    Args:
        job: The run.
        shard: Its images.
        on_image: Called before each image is waited for, as a sign of life.

    Raises:
        ReportWriteFailed: The storage does not take the file; nothing half-written is left.
        ModelError: The engine cannot be built.
    """
    started, engine, watch = time.monotonic(), cached_engine(job.model), StageWatch()
    scorer = PictureScorer(job.model, engine, tile=job.tile, overlap=job.overlap, watch=watch)
    meter = DistanceMeter(job.model)
    storage, root = open_location(job.survey.uri)
    with warnings.catch_warnings():
        # Pillow warns of oddities in damaged files; what matters of it is in the rows.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        rows: list[dict[str, Any]] = []
        for listed, fetched in _announced(fetch_ahead(storage, root, shard.files, job.limits), on_image):
            watch.lap("fetch")
            rows.append(_key_columns(job, listed))
            _score_file(job, scorer, rows[-1], fetched, meter.listener(len(rows) - 1), watch)
        scorer.finish()
    for number, row in enumerate(rows):
        if row["verdict"] != "rejected":
            row.update(meter.columns(number))
    return _write_rows(job, shard, rows, started, watch)


def reject_shard(
    job: ScoringJob, shard: Shard, code: str, detail: str | Sequence[str], stage: str = "score"
) -> ShardResult:
    """Write rows for images that nobody may read, because they kill the process that does, or are gone.

    Args:
        job: The run.
        shard: The images.
        code: Why.
        detail: The same for people; one for all or one for each.
        stage: Where it came out.

    Raises:
        ReportWriteFailed: As `score_shard`.
    """
    details = [detail] * len(shard.files) if isinstance(detail, str) else detail
    rejected = {"verdict": "rejected", "reject_code": code, "reject_stage": stage}
    rows = [
        _key_columns(job, file) | rejected | {"reject_detail": why, "scored_at": datetime.now(UTC)}
        for file, why in zip(shard.files, details, strict=True)
    ]
    return _write_rows(job, shard, rows, time.monotonic(), StageWatch())


def _write_rows(
    job: ScoringJob, shard: Shard, rows: list[dict[str, Any]], started: float, watch: StageWatch
) -> ShardResult:
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


def _key_columns(job: ScoringJob, listed: ListedFile) -> dict[str, Any]:
    return {
        "survey": job.survey.name,
        "image": listed.image,
        "bytes": listed.bytes,
        "modified_at": listed.modified_at,
        "model": job.model.reference,
        "model_sha256": job.model.sha256,
        "engine": job.model.engine,
        "preprocess": preprocess_fingerprint(job.tile, job.overlap),
        "software": job.software,
        "run_id": job.run_id,
        "threshold": job.model.threshold,
    }


def _score_file(
    job: ScoringJob,
    scorer: PictureScorer,
    row: dict[str, Any],
    fetched: bytes | ImageRejected,
    on_features: OnFeatures | None,
    watch: StageWatch,
) -> None:
    """Fill in the columns that depend on the file's content; those of the model come with its batch."""
    row["scored_at"] = datetime.now(UTC)
    try:
        if isinstance(fetched, ImageRejected):
            raise fetched
        row["sha256"] = hashlib.sha256(fetched).hexdigest()
        pixels, metadata = read_photograph(fetched, job.limits)
        row["height"], row["width"] = pixels.shape[:2]
        row["captured_at"] = metadata.captured_at
        row["latitude"], row["longitude"] = metadata.latitude, metadata.longitude
        row["altitude"], row["camera"] = metadata.altitude, metadata.camera
        watch.lap("decode")
        scorer.add(pixels, row.update, on_features)
    except ImageRejected as rejected:
        row.update(rejection(rejected))
        called_image = PurePosixPath(row["image"]).suffix.lower() in _IMAGE_SUFFIXES
        if rejected.code == "not_an_image" and called_image:
            row["reject_code"] = "mislabelled"
        watch.lap("decode")


def _announced(fetched: Iterator[Fetched], on_image: Callable[[], None]) -> Iterator[Fetched]:
    on_image()
    for file in fetched:
        yield file
        on_image()
