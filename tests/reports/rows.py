"""Rows and listings as scoring makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from crackmodel.reports.reading.incremental import ScoringKey
from crackmodel.reports.schema import REPORT_SCHEMA, TIMESTAMP

NOON = datetime(2026, 5, 4, 12, 0, 0, 123457, tzinfo=UTC)
MODEL = "a" * 64
PREPROCESS = "cv2-linear-160/tile=227/overlap=0"
KEY = ScoringKey("bridge", "m@1", MODEL, PREPROCESS)


def run_name(number: int) -> str:
    """Names of runs that follow each other, and the `run-1` of `make_row`."""
    return f"20260504T12{number:04}Z-aaaaaa"


def make_row(image: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    """A row of a clear close-up, with what a test wants different."""
    row: dict[str, Any] = {
        "survey": "bridge",
        "image": image,
        "bytes": 1000,
        "modified_at": NOON,
        "sha256": "0" * 64,
        "width": 227,
        "height": 227,
        "tile_size": 227,
        "tile_overlap": 0,
        "tile_rows": 1,
        "tile_columns": 1,
        "tile_probabilities": [0.125],
        "crack_probability": 0.125,
        "crack_fraction": 0.0,
        "threshold": 0.5,
        "verdict": "clear",
        "model": "m@1",
        "model_sha256": MODEL,
        "preprocess": PREPROCESS,
        "engine": "litert",
        "software": "0.1.0",
        "run_id": "run-1",
        "scored_at": NOON + timedelta(hours=1),
    }
    return row | changes


def make_rejected(image: str = "bad.jpg", code: str = "truncated", **changes: Any) -> dict[str, Any]:
    """A row of an image that could not be read."""
    unknown = dict.fromkeys(
        ["width", "height", "tile_rows", "tile_columns", "tile_probabilities", "crack_probability"]
    )
    reason = {"verdict": "rejected", "reject_code": code, "reject_stage": "decode", "reject_detail": "broken"}
    return make_row(image, **{**unknown, "crack_fraction": None, **reason, **changes})


def build_rows(records: Sequence[dict[str, Any]]) -> pa.Table:
    """A table with `REPORT_SCHEMA`; columns that a record leaves out are null."""
    return pa.Table.from_pylist(list(records), schema=REPORT_SCHEMA)


def make_listing(*files: tuple[str, int, datetime]) -> pa.Table:
    """What listing a survey returns."""
    names, sizes, times = zip(*files, strict=True) if files else ((), (), ())
    return pa.table(
        {
            "image": pa.array(names, pa.large_string()),
            "bytes": pa.array(sizes, pa.int64()),
            "modified_at": pa.array(times, TIMESTAMP),
        }
    )
