"""What a survey holds against what its report holds: what is still to score, and what is gone.

DuckDB compares streams of Arrow batches, a range of names after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from crackmodel.reports.reading.run_statistics import number_runs, scan
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.schema import DEPARTED_STAGE, KEY_COLUMNS, TRANSIENT_REJECT_CODES

# Of several rows of an image that of the last run counts, as in the view `latest`: after a file was replaced
# and restored, its first row is true of the file again, but no longer what the report says.
_PENDING: Final = """
    WITH newest AS (
        SELECT image,
               arg_max({'bytes': bytes, 'modified_at': modified_at, 'settled': settled}, run_number) AS file
        FROM known JOIN runs USING (run_id) GROUP BY image
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
"""Of DuckDB's own for a part of that many files; beyond that it goes to disk."""


_MISSING: Final = "SELECT count(*) FROM listing ANTI JOIN known USING (image, bytes, modified_at)"

_NOT_LISTED: Final = "SELECT count(*) FROM known ANTI JOIN listing USING (image)"

# Only rows of the files as they are listed say what content has which name: names are used again.
_GONE: Final = """
    WITH gone AS (
        SELECT image,
               arg_max({'bytes': bytes, 'modified_at': modified_at, 'sha256': sha256,
                        'departed': is_departed(reject_stage)},
                       row_rank(run_number, verdict, reject_code, reject_stage)) AS file
        FROM known JOIN runs USING (run_id) ANTI JOIN listing USING (image) GROUP BY image
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


def pending(
    listing: pa.Table,
    rows: ds.Dataset,
    *,
    model: str,
    model_sha256: str,
    preprocess: str,
    retry_rejected: bool,
) -> pa.Table:
    """The listed files whose newest row does not answer for them; see `ReportTable.pending`."""
    settled = ds.field("verdict") != "rejected"
    if not retry_rejected:
        settled = settled | ~ds.field("reject_code").isin(sorted(TRANSIENT_REJECT_CODES))
    columns = {name: ds.field(name) for name in (*KEY_COLUMNS, "run_id")} | {"settled": settled}
    # Whoever said that an image is gone, it is back, and `latest` has to say so.
    wanted = _same_scoring(model, model_sha256, preprocess) | (ds.field("reject_stage") == DEPARTED_STAGE)
    runs = number_runs(rows)
    found: list[pa.Table] = []
    # Positions instead of rows come back: a second copy of a million files would be 60 MB.
    for part, answer in _in_parts(_PENDING, listing, partial(scan, rows, columns, wanted), runs):
        positions = answer["position"].to_numpy()
        found.append(part if len(positions) == part.num_rows else part.take(np.sort(positions)))
    return pa.concat_tables(found)


def missing(
    listing: pa.Table,
    rows: ds.Dataset,
    *,
    model: str,
    model_sha256: str,
    preprocess: str,
    run_id: str | None = None,
) -> int:
    """Count the listed files that have no row at all; see `ReportTable.missing`."""
    wanted = _same_scoring(model, model_sha256, preprocess)
    if run_id is not None:
        wanted = wanted & (ds.field("run_id") == run_id)
    return _counted(_MISSING, listing, partial(scan, rows, KEY_COLUMNS, wanted))


def _counted(sql: str, listing: pa.Table, known: Callable[..., ds.Scanner]) -> int:
    return sum(answer[0][0].as_py() for _, answer in _in_parts(sql, listing, known))


def _in_parts(
    sql: str, listing: pa.Table, known: Callable[..., ds.Scanner], runs: pa.Table | None = None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Ask about a listing and what is known, a range of names after the other.

    A million files at once would take hundreds of megabytes. Of a compacted file Arrow reads no more than the
    range.

    Args:
        sql: Asks about `listing`, which has a `position` besides, `known`, and `runs`.
        listing: Files, in any order.
        known: Makes a scanner of the rows whose names are in a range.
        runs: What `number_runs` returned.

    Yields:
        Each part of the sorted listing, and the answer about it; at least one.
    """
    names = listing["image"]
    listing = listing if _is_sorted(names) else listing.sort_by("image")
    size = max(_FILES_AT_ONCE, -(-listing.num_rows // _MOST_PARTS))
    for start in range(0, max(listing.num_rows, 1), size):
        part = listing.slice(start, size)
        keys = part.select(KEY_COLUMNS).append_column("position", pa.array(np.arange(part.num_rows)))
        within = _range(listing["image"], start, size)
        yield part, _query_bounded(sql, partial(known, within=within), listing=keys, runs=runs)


def _range(names: pa.ChunkedArray, start: int, size: int) -> ds.Expression:
    """Which names belong to a part: every name to one, listed or not."""
    within = ds.scalar(True)
    if start:
        within = within & (ds.field("image") > names[start - 1])
    if start + size < len(names):
        within = within & (ds.field("image") <= names[start + size - 1])
    return within


def _query_bounded(
    sql: str, known: Callable[[], ds.Scanner], *, listing: pa.Table, runs: pa.Table | None
) -> pa.Table:
    """Answer a query in little memory if it can be done, else in what it takes."""
    tables = {"listing": listing} if runs is None else {"listing": listing, "runs": runs}
    megabytes = _MEGABYTES_AT_ONCE * max(1, listing.num_rows // _FILES_AT_ONCE)
    try:
        with open_database({**tables, "known": known()}, megabytes=megabytes) as database:
            return database.sql(sql).to_arrow_table()
    except duckdb.OutOfMemoryException:
        with open_database({**tables, "known": known()}) as database:
            return database.sql(sql).to_arrow_table()


def gone(listing: pa.Table, rows: ds.Dataset) -> pa.Table:
    """The images that a listing lacks; see `ReportTable.gone`."""
    if not _counted(
        _NOT_LISTED, listing, partial(scan, rows, ["image"])
    ):  # the usual case, for one column's price
        return pa.table({name: [] for name in (*KEY_COLUMNS, "now")})
    columns = [*KEY_COLUMNS, "sha256", "run_id", "verdict", "reject_code", "reject_stage"]
    tables = {
        "listing": listing,
        "known": scan(rows, columns),
        "runs": number_runs(rows),
        "contents": scan(rows, [*KEY_COLUMNS, "sha256"]),
    }
    with open_database(tables) as database:
        return database.sql(_GONE).to_arrow_table()


def _is_sorted(names: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.less_equal(names[:-1], names[1:])).as_py()) if len(names) > 1 else True


def _same_scoring(model: str, model_sha256: str, preprocess: str) -> ds.Expression:
    """Versions that share a file may differ in threshold or calibration; a version may have several files."""
    return (
        (ds.field("model") == model)
        & (ds.field("model_sha256") == model_sha256)
        & (ds.field("preprocess") == preprocess)
    )
