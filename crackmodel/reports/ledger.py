"""What the report says of a survey and of a run: what is still to score, what was scored, and how bad it is.

DuckDB does the arithmetic over streams of Arrow batches, so that a million rows pass through without ever
being Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from crackmodel.errors import ReportError
from crackmodel.reports.database import open_database
from crackmodel.reports.schema import DEPARTED_REJECT_CODES, KEY_COLUMNS, TRANSIENT_REJECT_CODES
from crackmodel.reports.storage import first_line, remedy


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What one run has in the report.

    Attributes:
        run_id: Name of the run.
        rows: All of its rows; what it listed and did not skip, if it lost nothing.
        crack: Images with a crack.
        clear: Images without.
        rejected: Images that could not be scored.
        reject_codes: How many of those for which reason, most frequent first.
    """

    run_id: str
    rows: int
    crack: int
    clear: int
    rejected: int
    reject_codes: Mapping[str, int]

    @property
    def scored(self) -> int:
        """Images that the model judged."""
        return self.crack + self.clear


@dataclass(frozen=True, slots=True)
class TopImage:
    """One of the images that deserve the first look.

    Attributes:
        survey: Name of the survey.
        image: Path of the image within it.
        crack_probability: Probability of its worst tile.
        crack_fraction: Share of its tiles with a crack.
        tile_rows: Rows of its tile grid.
        tile_columns: Columns of its tile grid.
        worst_tile: Index of the worst tile, row-major from 0; None if the tiles were not kept.
    """

    survey: str
    image: str
    crack_probability: float
    crack_fraction: float | None
    tile_rows: int | None
    tile_columns: int | None
    worst_tile: int | None


@dataclass(frozen=True, slots=True)
class UnfamiliarImage:
    """One of the images that look unlike what the model was trained on.

    Attributes:
        survey: Name of the survey.
        image: Path of the image within it.
        ood_score: Median over its tiles, about 1 for a training image.
        ood_fraction: Share of its tiles over the threshold.
        verdict: What the model said of it all the same.
    """

    survey: str
    image: str
    ood_score: float
    ood_fraction: float
    verdict: str


# Of several rows of an image the newest counts, as in the view `latest`: after a file was replaced and
# restored, its first row is true of the file again, but no longer what the report says.
_PENDING: Final = """
    WITH newest AS (
        SELECT image,
               arg_max({'bytes': bytes, 'modified_at': modified_at, 'settled': settled}, scored_at) AS file
        FROM known GROUP BY image
    )
    SELECT listing.position
    FROM listing ANTI JOIN newest
      ON listing.image = newest.image
     AND listing.bytes = newest.file.bytes
     AND listing.modified_at = newest.file.modified_at
     AND newest.file.settled
"""

_MEMORY: Final = "128MB"
"""Of DuckDB's own for a comparison, which four million images manage with; beyond that it goes to disk."""

# By hashes of 64 bits, a third of the memory: this only checks what was written, it decides nothing.
_MISSING: Final = """
    SELECT count(*)
    FROM (SELECT hash(image, bytes, modified_at) AS key FROM listing)
    ANTI JOIN (SELECT hash(image, bytes, modified_at) AS key FROM known) USING (key)
"""

_STRANGERS: Final = "SELECT count(*) FROM known ANTI JOIN listing USING (image)"

# Only rows of the files as they are listed say what content has which name: names are used again.
_GONE: Final = """
    WITH gone AS (
        SELECT image,
               arg_max({'bytes': bytes, 'modified_at': modified_at, 'sha256': sha256, 'departed': departed},
                       scored_at) AS file
        FROM known ANTI JOIN listing USING (image) GROUP BY image
    ), here AS (
        SELECT sha256, min(image) AS now
        FROM contents SEMI JOIN listing USING (image, bytes, modified_at)
        WHERE sha256 IN (SELECT file.sha256 FROM gone) GROUP BY sha256
    )
    SELECT image, gone.file.bytes AS bytes, gone.file.modified_at AS modified_at, here.now AS now
    FROM gone LEFT JOIN here ON here.sha256 = gone.file.sha256
    WHERE NOT gone.file.departed
    ORDER BY image
"""

_TOP: Final = """
    SELECT survey, image, crack_probability, crack_fraction, tile_rows, tile_columns,
           list_position(tile_probabilities, list_max(tile_probabilities)) - 1
    FROM scored
    WHERE crack_probability IS NOT NULL
    ORDER BY crack_probability DESC, crack_fraction DESC, image
    LIMIT $n
"""

_UNFAMILIAR: Final = """
    SELECT survey, image, ood_score, ood_fraction, verdict
    FROM scored
    WHERE ood_score > ood_threshold
    ORDER BY ood_score DESC, image
    LIMIT $n
"""


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Say which report it was when its files cannot be read.

    Raises:
        ReportError: Instead of what DuckDB, Arrow or the operating system raised.
    """
    try:
        yield
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        raise ReportError(
            f"The rows of the report at {uri} cannot be read: {first_line(error)}.",
            remedy(
                error,
                "Ask again, as it may have been compacted meanwhile; else check the storage "
                "(crackmodel report check); if files were deleted by hand, restore them from a backup.",
            ),
        ) from error


def pending(
    listing: pa.Table, rows: ds.Dataset, *, model_sha256: str, preprocess: str, retry_rejected: bool
) -> pa.Table:
    """The listed files whose newest row does not answer for them; see `ReportTable.pending`."""
    settled = ds.field("verdict") != "rejected"
    if not retry_rejected:
        settled = settled | ~ds.field("reject_code").isin(sorted(TRANSIENT_REJECT_CODES))
    columns = {name: ds.field(name) for name in (*KEY_COLUMNS, "scored_at")} | {"settled": settled}
    # Whoever said that an image is gone, it is back, and `latest` has to say so.
    departed = ds.field("reject_code").isin(sorted(DEPARTED_REJECT_CODES))
    known = partial(_scan, rows, columns, _same_scoring(model_sha256, preprocess) | departed)
    # Positions instead of rows come back: a second copy of a million files would be 60 MB.
    keys = listing.select(KEY_COLUMNS).append_column("position", pa.array(np.arange(listing.num_rows)))
    positions = _frugally(_PENDING, keys, known)["position"].to_numpy()
    left = listing if len(positions) == listing.num_rows else listing.take(np.sort(positions))
    return left if _is_sorted(left["image"]) else left.sort_by("image")


def missing(
    listing: pa.Table, rows: ds.Dataset, *, model_sha256: str, preprocess: str, run_id: str | None = None
) -> int:
    """Count the listed files that have no row at all; see `ReportTable.missing`."""
    wanted = _same_scoring(model_sha256, preprocess)
    if run_id is not None:
        wanted = wanted & (ds.field("run_id") == run_id)
    return int(_frugally(_MISSING, listing, partial(_scan, rows, KEY_COLUMNS, wanted))[0][0].as_py())


def _frugally(sql: str, listing: pa.Table, known: Callable[[], ds.Scanner]) -> pa.Table:
    """Ask about a listing and what is known, in little memory if it can be done, else in what it takes."""
    try:
        with open_database({"listing": listing, "known": known()}, memory=_MEMORY) as database:
            return database.sql(sql).to_arrow_table()
    except duckdb.OutOfMemoryException:
        with open_database({"listing": listing, "known": known()}) as database:
            return database.sql(sql).to_arrow_table()


def gone(listing: pa.Table, rows: ds.Dataset) -> pa.Table:
    """The images that a listing lacks; see `ReportTable.gone`."""
    strangers = _frugally(_STRANGERS, listing, partial(_scan, rows, ["image"]))[0][0].as_py()
    if not strangers:  # the usual case, for one column's price
        return pa.table({name: [] for name in (*KEY_COLUMNS, "now")})
    code = ds.field("reject_code")
    departed = code.is_valid() & code.isin(sorted(DEPARTED_REJECT_CODES))
    columns = {name: ds.field(name) for name in (*KEY_COLUMNS, "sha256", "scored_at")} | {
        "departed": departed
    }
    tables = {
        "listing": listing,
        "known": _scan(rows, columns),
        "contents": _scan(rows, [*KEY_COLUMNS, "sha256"]),
    }
    with open_database(tables) as database:
        return database.sql(_GONE).to_arrow_table()


def _is_sorted(names: pa.ChunkedArray) -> bool:
    return bool(pc.all(pc.less_equal(names[:-1], names[1:])).as_py()) if len(names) > 1 else True


def count(rows: ds.Dataset, run_id: str) -> RunCounts:
    """Count a run's rows; see `ReportTable.count`."""
    with open_database({"scored": _of_run(rows, run_id, "verdict", "reject_code")}) as database:
        groups = database.sql(
            "SELECT verdict, reject_code, count(*) AS n FROM scored GROUP BY ALL ORDER BY n DESC, reject_code"
        ).fetchall()
    by_verdict = {"crack": 0, "clear": 0, "rejected": 0}
    codes: dict[str, int] = {}
    for verdict, code, number in groups:
        by_verdict[verdict] += number
        if verdict == "rejected":
            codes[code or "unknown"] = codes.get(code or "unknown", 0) + number
    return RunCounts(run_id, sum(by_verdict.values()), reject_codes=codes, **by_verdict)


def top(rows: ds.Dataset, run_id: str, n: int) -> tuple[TopImage, ...]:
    """The worst images of a run; see `ReportTable.top`."""
    columns = ("survey", "image", "crack_probability", "crack_fraction")
    tiles = ("tile_rows", "tile_columns", "tile_probabilities")
    with open_database({"scored": _of_run(rows, run_id, *columns, *tiles)}) as database:
        worst = database.execute(_TOP, {"n": n}).fetchall()
    return tuple(TopImage(*row) for row in worst)


def unfamiliar(rows: ds.Dataset, run_id: str, n: int) -> tuple[UnfamiliarImage, ...]:
    """The flagged images of a run; see `ReportTable.unfamiliar`."""
    columns = ("survey", "image", "ood_score", "ood_fraction", "ood_threshold", "verdict")
    with open_database({"scored": _of_run(rows, run_id, *columns)}) as database:
        flagged = database.execute(_UNFAMILIAR, {"n": n}).fetchall()
    return tuple(UnfamiliarImage(*row) for row in flagged)


def _of_run(rows: ds.Dataset, run_id: str, *columns: str) -> ds.Scanner:
    return _scan(rows, columns, ds.field("run_id") == run_id)


def _same_scoring(model_sha256: str, preprocess: str) -> ds.Expression:
    return (ds.field("model_sha256") == model_sha256) & (ds.field("preprocess") == preprocess)


def _scan(
    rows: ds.Dataset,
    columns: Sequence[str] | Mapping[str, ds.Expression],
    where: ds.Expression | None = None,
) -> ds.Scanner:
    """Read some columns once; kept, the files' footers would take 80 KB a file."""
    wanted = dict(columns) if isinstance(columns, Mapping) else list(columns)
    return rows.scanner(columns=wanted, filter=where, cache_metadata=False)
