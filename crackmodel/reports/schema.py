"""The row of a report: one explicit Arrow schema, the same in every file."""

from __future__ import annotations

import re
from typing import Final, Literal

import pyarrow as pa

from crackmodel.errors import UsageError

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

Verdict = Literal["crack", "clear", "rejected"]

REJECT_CODES: Final = {
    "not_an_image": "the content is none of JPEG, PNG, TIFF, BMP, WebP",
    "mislabelled": "as `not_an_image`, though the file's name ends like an image's",
    "empty": "the file has no bytes",
    "too_many_bytes": "the file is larger than the limit",
    "too_many_pixels": "the header announces more pixels than the limit; nothing was decoded",
    "too_small": "the picture is too small to classify",
    "truncated": "the file ends before its picture does",
    "undecodable": "the decoder gave up on the content",
    "unreadable": "the storage did not give the file's bytes, or not within the limit",
    "vanished": "the file was deleted between listing and reading, or is gone (`--mark-missing`)",
    "moved": "the file is gone, and the same content was found under another name",
    "changed": "the file was replaced between listing and reading",
    "too_many_tiles": "the tile grid of the picture has more tiles than the limit",
    "scoring_failed": "the model failed on the decoded picture",
    "worker_crashed": "reading or scoring it kills its process, also when it is alone in one",
    "timed_out": "scoring it takes longer than the limit, also when it is alone in a process",
}
"""Every `reject_code` a report may hold, with its meaning."""

TRANSIENT_REJECT_CODES: Final = frozenset({"vanished", "moved", "unreadable", "changed", "scoring_failed"})
"""Reasons that may pass although the file stays the same: a share that is not mounted, too little memory.

The next run tries these images again, and until then an earlier row of the image counts. All other reasons
are in the file's own bytes."""

REJECT_STAGES: Final = {
    "list": "the file is gone from the survey",
    "fetch": "getting the file's bytes",
    "identify": "finding out what the bytes are",
    "decode": "decoding the picture",
    "tile": "cutting the picture into tiles",
    "score": "running the model",
}
"""Every `reject_stage` a report may hold, with its meaning."""

DEPARTED_STAGE: Final = "list"
"""The stage of rows which say that an image is gone; they never count as passing rejections."""

REPORT_SCHEMA: Final = pa.schema(
    [
        # What was scored: the survey is the partition, the image's path is relative to the survey.
        pa.field("survey", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("modified_at", TIMESTAMP, nullable=False),
        pa.field("sha256", pa.string()),
        # What the picture says of itself; width and height after the EXIF orientation is applied.
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("captured_at", TIMESTAMP),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("altitude", pa.float64()),
        pa.field("camera", pa.string()),
        # What the model saw: the window's edge and overlap in pixels, and the grid, row-major.
        pa.field("tile_size", pa.int32()),
        pa.field("tile_overlap", pa.int32()),
        pa.field("tile_rows", pa.int32()),
        pa.field("tile_columns", pa.int32()),
        pa.field("tile_probabilities", pa.list_(pa.float32())),
        # What it said.
        pa.field("crack_probability", pa.float32()),
        pa.field("crack_fraction", pa.float32()),
        pa.field("threshold", pa.float32()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reject_code", pa.string()),
        pa.field("reject_stage", pa.string()),
        pa.field("reject_detail", pa.string()),
        # How unlike the model's training images it is.
        pa.field("ood_score", pa.float32()),
        pa.field("ood_fraction", pa.float32()),
        pa.field("ood_threshold", pa.float32()),
        # Who said so, and when.
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_sha256", pa.string(), nullable=False),
        pa.field("engine", pa.string(), nullable=False),
        pa.field("preprocess", pa.string(), nullable=False),
        pa.field("software", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("scored_at", TIMESTAMP, nullable=False),
    ]
)
"""Schema of a report. `survey` is the Delta partition column. Times are UTC microseconds."""

LATER_COLUMNS: Final = ("ood_score", "ood_fraction", "ood_threshold")
"""Columns that reports of crackmodel 0.1 were made without. They are null in its rows, and added to its
reports by the first run that writes to them."""

PARTITION_COLUMN: Final = "survey"

KEY_COLUMNS: Final = ("image", "bytes", "modified_at")
"""What makes two listings of a file the same file, within one survey, model and preprocessing."""

FILE_SCHEMA: Final = pa.schema([field for field in REPORT_SCHEMA if field.name != PARTITION_COLUMN])
"""Schema of one Parquet file of a report: the survey is in the folder's name, not in the file."""

_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9-][A-Za-z0-9._-]{0,99}")
"""At most 100 characters: file systems take 255 bytes for a name, and the folder's has a prefix."""


def check_name(name: str, what: str = "survey") -> str:
    """Return a name that can be part of a path on every storage.

    A leading dot or underscore would hide the rows: readers of Parquet folders skip such names.

    Raises:
        UsageError: The name is empty, longer than 100 characters, has some outside `A-Z a-z 0-9 . _ -`, or
            would be hidden.
    """
    if _SAFE_NAME.fullmatch(name):
        return name
    raise UsageError(
        f"{name!r} cannot be the name of a {what}.",
        "Use at most 100 letters, digits, '.', '_' and '-', and begin with a letter or a digit.",
    )


def partition_folder(survey: str) -> str:
    """Return the folder of a survey's rows in a report, `survey=bridge-07`.

    Raises:
        UsageError: The survey's name cannot be part of a path.
    """
    return f"{PARTITION_COLUMN}={check_name(survey)}"


def check_rows(table: pa.Table) -> None:
    """Check required columns, reject codes and stages, which Arrow does not.

    Raises:
        ValueError: A required column of `table` holds a null, or one of a closed set of words another word.
    """
    for name, words in {"reject_code": REJECT_CODES, "reject_stage": REJECT_STAGES}.items():
        if other := set(table[name].unique().to_pylist()) - {None, *words}:
            raise ValueError(f"no {name} of a report: {', '.join(sorted(other))}")
    for field in REPORT_SCHEMA:
        if not field.nullable and field.name in table.column_names and table[field.name].null_count:
            raise ValueError(f"column {field.name!r} of a report may not be null")
