"""Statistics of a run: counts, and its most suspicious images.

DuckDB computes them from streams of Arrow batches, so that a million rows never become Python objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any, Final

import pyarrow.dataset as ds

from crackmodel.reports.reading.dataset import newest_rows
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.table import ReportTable


@dataclass(frozen=True, slots=True)
class RunCounts:
    """The rows of one run, counted by verdict.

    Attributes:
        rows: All of its rows; what it listed and did not skip, if it lost nothing.
        reject_codes: How many were rejected for which reason, most frequent first.
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
    """One of the images to look at first.

    Attributes:
        crack_probability: Probability of its worst tile.
        crack_fraction: Share of its tiles with a crack.
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
    """One of the images that look unlike the training images.

    Attributes:
        ood_score: Median over its tiles, about 1 for a training image.
        ood_fraction: Share of its tiles over the threshold.
        verdict: What the model said of it all the same.
    """

    survey: str
    image: str
    ood_score: float
    ood_fraction: float
    verdict: str


_ROWS_AHEAD: Final = {"batch_size": 16_384, "batch_readahead": 2}
"""Arrow's own readahead is 2 million rows, which costs memory and is of no use here."""

_COUNTS: Final = """
    SELECT verdict, reject_code, count(*) AS n FROM scored GROUP BY ALL ORDER BY n DESC, reject_code
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


def count_rows(table: ReportTable, run_id: str, survey: str | None = None) -> RunCounts:
    """Count a run's rows by verdict and by reject code.

    Where the run's survey is given, the files of all others are not looked at.

    Raises:
        ReportError: A committed file cannot be read.
    """
    groups = _ask_run(table, run_id, survey, _COUNTS, "verdict", "reject_code")
    by_verdict = {"crack": 0, "clear": 0, "rejected": 0}
    codes: dict[str, int] = {}
    for verdict, code, number in groups:
        by_verdict[verdict] += number
        if verdict == "rejected":
            codes[code or "unknown"] = codes.get(code or "unknown", 0) + number
    return RunCounts(run_id, sum(by_verdict.values()), reject_codes=codes, **by_verdict)


def top_images(
    table: ReportTable, run_id: str, n: int = 10, survey: str | None = None
) -> tuple[TopImage, ...]:
    """Find the `n` images of a run with the highest crack probability.

    Rejected images are left out. Highest probability first; of equals the one with more cracked tiles.

    Raises:
        ReportError: A committed file cannot be read.
    """
    columns = ("survey", "image", "crack_probability", "crack_fraction")
    tiles = ("tile_rows", "tile_columns", "tile_probabilities")
    return tuple(TopImage(*row) for row in _ask_run(table, run_id, survey, _TOP, *columns, *tiles, n=n))


def unfamiliar_images(
    table: ReportTable, run_id: str, n: int = 10, survey: str | None = None
) -> tuple[UnfamiliarImage, ...]:
    """Find the images of a run that look least like the training images.

    Only flagged ones, highest `ood_score` first. Arguments and errors as in `top_images`.
    """
    columns = ("survey", "image", "ood_score", "ood_fraction", "ood_threshold", "verdict")
    rows = _ask_run(table, run_id, survey, _UNFAMILIAR, *columns, n=n)
    return tuple(UnfamiliarImage(*row) for row in rows)


def rows_by_run(table: ReportTable, survey: str) -> dict[str, int]:
    """Count the rows of each run of a survey, as the report holds them now.

    Raises:
        ReportError: The report cannot be read.
    """
    with newest_rows(table, survey) as rows, open_database({"known": scan(rows, ["run_id"])}) as database:
        return dict(database.sql("SELECT run_id, count(*) FROM known GROUP BY run_id").fetchall())


def _ask_run(
    table: ReportTable, run_id: str, survey: str | None, sql: str, *columns: str, **values: Any
) -> list[tuple[Any, ...]]:
    """Run a query over some columns of a run's rows, `scored`."""
    with newest_rows(table, survey) as rows:
        scored = scan(rows, columns, ds.field("run_id") == run_id)
        with open_database({"scored": scored}) as database:
            return database.execute(sql, values).fetchall()


def scan(
    rows: ds.Dataset, columns: Sequence[str] | Mapping[str, ds.Expression], *where: ds.Expression
) -> ds.Scanner:
    """Scan some columns of the rows that fulfil all conditions, without keeping footers of 80 KB each."""
    wanted = dict(columns) if isinstance(columns, Mapping) else list(columns)
    condition = reduce(and_, where) if where else None
    return rows.scanner(columns=wanted, filter=condition, cache_metadata=False, **_ROWS_AHEAD)
