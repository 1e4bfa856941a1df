"""Score one shard: fetch, decode, tile, run the model, write.

Everything here runs inside a Ray task or, with `--workers 0`, in the caller's process. A worker loads
numpy, OpenCV, pyarrow and LiteRT, and neither TensorFlow nor the table format.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final

from crackmodel.errors import ImageRejected
from crackmodel.scoring.plan import Shard
from crackmodel.scoring.task import ScoringJob, ShardResult
from crackmodel.scoring.worker.batching import OnFeatures, PictureScorer, cached_engine, rejection
from crackmodel.scoring.worker.fetching import fetch_ahead
from crackmodel.scoring.worker.ood import OutOfDistribution
from crackmodel.scoring.worker.rows import common_columns, write_rows
from crackmodel.scoring.worker.stages import StageWatch
from crackmodel.surveys.decoding import DecodeLimits, read_photograph

_IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""A file that is called an image and is none was damaged or misnamed; any other is no loss."""


def score_shard(
    job: ScoringJob,
    shard: Shard,
    on_image: Callable[[], None] = lambda: None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> ShardResult:
    """Score the images of a shard into one hidden Parquet file.

    A bad image becomes a `rejected` row. The file becomes part of the report when the driver publishes
    and commits it.

    Args:
        job: The run.
        shard: Its images.
        on_image: Called before each image is waited for, as a sign of life.
        on_stage: Called with `score` whenever an image's file is there, and with `write` once all are scored.

    Raises:
        ReportWriteFailed: The storage does not take the file; nothing half-written is left.
        ModelError: The engine cannot be built.
    """
    started, engine, watch = time.monotonic(), cached_engine(job.model), StageWatch()
    settings = job.settings
    limits = DecodeLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    scorer = PictureScorer(job.model, engine, tile=settings.tile, overlap=settings.overlap, watch=watch)
    meter = OutOfDistribution(job.model)
    storage, root = job.survey.open()
    with warnings.catch_warnings():
        # Pillow warns of oddities in damaged files; what matters of it is in the rows.
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        common, rows = common_columns(job), list[dict[str, Any]]()
        on_image()
        for listed, fetched in fetch_ahead(storage, root, shard.files, limits):
            watch.lap("fetch")
            on_stage("score")
            rows.append(common | listed._asdict())
            _score_file(limits, scorer, rows[-1], fetched, meter.listener(len(rows) - 1), watch)
            on_image()
        scorer.finish()
    for number, row in enumerate(rows):
        if row["verdict"] != "rejected":
            row.update(meter.columns(number))
    on_stage("write")
    return write_rows(job, shard, rows, started, watch)


def _score_file(
    limits: DecodeLimits,
    scorer: PictureScorer,
    row: dict[str, Any],
    fetched: bytes | ImageRejected,
    on_features: OnFeatures | None,
    watch: StageWatch,
) -> None:
    """Fill in the columns of a file's content; the model's come later."""
    row["scored_at"] = datetime.now(UTC)
    try:
        if isinstance(fetched, ImageRejected):
            raise fetched
        row["sha256"] = hashlib.sha256(fetched).hexdigest()
        pixels, metadata = read_photograph(fetched, limits)
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
