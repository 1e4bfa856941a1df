"""Comparison of a survey with its report: what is to score, what is gone.

DuckDB compares streams of Arrow batches, one range of names at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from crackmodel.reports.reading.dataset import newest_rows
from crackmodel.reports.reading.run_statistics import scan
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.schema import DEPARTED_STAGE, KEY_COLUMNS, TRANSIENT_REJECT_CODES
from crackmodel.reports.table import ReportTable

# Of several rows of an image that of the last run counts, as in the view `latest`: after a file was replaced
# and restored, its first row is true of the file again, but no longer what the report says.
_PENDING: Final = """
    WITH newest AS (
        SELECT image,
               arg_max({'bytes': bytes, 'modified_at': modified_at, 'settled': settled},
                       run_number(run_id)) AS file
        FROM known GROUP BY image
    )
    SELECT listing.position
    FROM listing ANTI JOIN newest
      ON listing.image = newest.image
     AND listing.bytes = newest.file.bytes
     AND listing.modified_at = newest.file.modified_at
     AND newest.file.settled
"""

_FILES_AT_ONCE: Final = 250_000
_MOST_PARTS: Final = 16
"""For each part of a comparison the footers of all of the survey's files are read again."""

_MEGABYTES_AT_ONCE: Final = 64
"""DuckDB's memory for a part of that many files; beyond that it uses the disk."""


_MISSING: Final = "SELECT count(*) FROM listing ANTI JOIN known USING (image, bytes, modified_at)"

_NOT_LISTED: Final = "SELECT count(*) FROM known ANTI JOIN listing USING (image)"

# Only rows of the files as they are listed say what content has which name: names are used again.
_GONE: Final = """
    WITH gone AS (
        SELECT image,
               arg_max({'bytes': bytes, 'modified_at': modified_at, 'sha256': sha256,
                        'departed': is_departed(reject_stage)},
                       row_rank(run_id, verdict, reject_code, reject_stage)) AS file
        FROM known ANTI JOIN listing USING (image) GROUP BY image
    ), present AS (
        SELECT sha256, min(image) AS now
        FROM contents SEMI JOIN listing USING (image, bytes, modified_at)
        WHERE sha256 IN (SELECT file.sha256 FROM gone) GROUP BY sha256
    )
    SELECT image, gone.file.bytes AS bytes, gone.file.modified_at AS modified_at, present.now AS now
    FROM gone LEFT JOIN present ON present.sha256 = gone.file.sha256
    WHERE NOT gone.file.departed
    ORDER BY image
"""


@dataclass(frozen=True, slots=True)
class ScoringKey:
    """What decides, besides the file, whether an image has been scored.

    Attributes:
        model: The version that scores, `name@version`.
        model_sha256: Its file.
        preprocess: Fingerprint of its preprocessing.
    """

    survey: str
    model: str
    model_sha256: str
    preprocess: str

    @property
    def rows(self) -> ds.Expression:
        """The filter for rows of this key; versions may share a file, and a version may have several."""
        return (
            (ds.field("model") == self.model)
            & (ds.field("model_sha256") == self.model_sha256)
            & (ds.field("preprocess") == self.preprocess)
        )


def pending(
    table: ReportTable, listing: pa.Table, key: ScoringKey, *, retry_rejected: bool = False
) -> pa.Table:
    """Return the listed files that are still to be scored.

    A file is done when the newest row of its image is of the same size and time, and is no rejection
    for one of `TRANSIENT_REJECT_CODES`. Rows of other models, versions and tile sizes do not count, but a row
    which says that the image is gone does.

    Args:
        table: The report.
        listing: `image` string or large_string, `bytes` int64, `modified_at` timestamp[us, UTC], and any
            others.
        key: What is going to score.
        retry_rejected: Count all rejected images as not scored.

    Returns:
        The same columns, the files to score, sorted by `image`.

    Raises:
        ReportError: A committed file cannot be read.
    """
    settled = ds.field("verdict") != "rejected"
    if not retry_rejected:
        settled = settled | ~ds.field("reject_code").isin(sorted(TRANSIENT_REJECT_CODES))
    columns = {name: ds.field(name) for name in (*KEY_COLUMNS, "run_id")} | {"settled": settled}
    # An image that any model called gone is back, and `latest` has to say so.
    wanted = key.rows | (ds.field("reject_stage") == DEPARTED_STAGE)
    found: list[pa.Table] = []
    with newest_rows(table, key.survey) as rows:
        known = partial(scan, rows, columns, wanted)
        # Positions instead of rows come back: a second copy of a million files would be 60 MB.
        for part, answer in _in_parts(_PENDING, listing, known):
            positions = answer["position"].to_numpy()
            found.append(part if len(positions) == part.num_rows else part.take(np.sort(positions)))
    return pa.concat_tables(found)


def count_missing(table: ReportTable, listing: pa.Table, key: ScoringKey, run_id: str | None = None) -> int:
    """Count the listed files without any row of this key.

    Unlike in `pending`, any row counts, also a rejection: right after a run this is what it lost or
    postponed. With `run_id` only rows of that run count, and the files of all others are not opened.

    Raises:
        ReportError: A committed file cannot be read.
    """
    wanted = key.rows if run_id is None else key.rows & (ds.field("run_id") == run_id)
    with newest_rows(table, key.survey) as rows:
        return _counted(_MISSING, listing, partial(scan, rows, KEY_COLUMNS, wanted))


def gone_images(table: ReportTable, listing: pa.Table, survey: str) -> pa.Table:
    """Return the images of a survey that its listing lacks, whatever model scored them.

    Returns:
        `image`, `bytes` and `modified_at` of its row in `latest`, and `now`: a listed image of the same
        content, null where there is none. Images whose row says that they are gone are left out.

    Raises:
        ReportError: A committed file cannot be read.
    """
    with newest_rows(table, survey) as rows:
        # The usual case, and one column is enough to find out.
        if not _counted(_NOT_LISTED, listing, partial(scan, rows, ["image"])):
            return pa.table({name: [] for name in (*KEY_COLUMNS, "now")})
        columns = [*KEY_COLUMNS, "sha256", "run_id", "verdict", "reject_code", "reject_stage"]
        tables = {
            "listing": listing,
            "known": scan(rows, columns),
            "contents": scan(rows, [*KEY_COLUMNS, "sha256"]),
        }
        with open_database(tables) as database:
            return database.sql(_GONE).to_arrow_table()


def _counted(sql: str, listing: pa.Table, known: Callable[..., ds.Scanner]) -> int:
    return sum(answer[0][0].as_py() for _, answer in _in_parts(sql, listing, known))


def _in_parts(
    sql: str, listing: pa.Table, known: Callable[..., ds.Scanner]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Run a query over a listing and the known rows, one range of names at a time.

    A million files at once would take hundreds of megabytes. Of a compacted file Arrow reads no more than the
    range. The query sees `listing`, which has a `position` besides, and `known`.

    Yields:
        Each part of the sorted listing, and the answer about it; at least one.
    """
    names = listing["image"]
    listing = listing if _is_sorted(names) else listing.sort_by("image")
    size = max(_FILES_AT_ONCE, -(-listing.num_rows // _MOST_PARTS))
    for start in range(0, max(listing.num_rows, 1), size):
        part = listing.slice(start, size)
        keys = part.select(KEY_COLUMNS).append_column("position", pa.array(np.arange(part.num_rows)))
        yield part, _query_bounded(sql, keys, partial(known, _range(listing["image"], start, size)))


def _range(names: pa.ChunkedArray, start: int, size: int) -> ds.Expression:
    """Return the filter for a part's names; every name, listed or not, is in one part."""
    within = ds.scalar(True)
    if start:
        within = within & (ds.field("image") > names[start - 1])
    if start + size < len(names):
        within = within & (ds.field("image") <= names[start + size - 1])
    return within


def _query_bounded(sql: str, listing: pa.Table, known: Callable[[], ds.Scanner]) -> pa.Table:
    """Answer a query in little memory if possible, else in as much as it takes."""
    megabytes = _MEGABYTES_AT_ONCE * max(1, listing.num_rows // _FILES_AT_ONCE)
    try:
        with open_database({"listing": listing, "known": known()}, megabytes=megabytes) as database:
            return database.sql(sql).to_arrow_table()
    except duckdb.OutOfMemoryException:
        with open_database({"listing": listing, "known": known()}) as database:
            return database.sql(sql).to_arrow_table()


def _is_sorted(names: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.less_equal(names[:-1], names[1:])).as_py()) if len(names) > 1 else True
