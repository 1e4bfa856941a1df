"""What has changed since the last announcement: new cracks, risen probabilities, drift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow.dataset as ds

from crackmodel.reports.reading.dataset import newest_rows
from crackmodel.reports.reading.run_statistics import rows_by_run, scan
from crackmodel.reports.reading.sandbox import open_database
from crackmodel.reports.table import ReportTable

_RUNS_TO_COMPARE: Final = 30

_DRIFTED: Final = 0.25
"""Population stability index from which on a distribution is said to have shifted: a common rule of thumb,
see Siddiqi, "Credit Risk Scorecards", Wiley 2006."""

_LEAST_IMAGES: Final = 50
"""With fewer images on either side only a crude change would show."""

_CHANCE: Final = 21.666
"""What chi-squared with 9 degrees of freedom exceeds once in a hundred; see `measure_drift`."""

_EDGES: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Limits between ten ranges of probability: most photographs lie close to 0, and cracks close to 1."""

_MEGABYTES: Final = 128
"""Beyond that the rows go to disk: a million of them would take half a gigabyte."""

_Row = tuple[Any, ...]

_COLUMNS: Final = (
    "image", "verdict", "crack_probability", "ood_score", "ood_threshold", "model", "model_sha256",
    "preprocess", "run_id", "reject_code", "reject_stage", "sha256",
)  # fmt: skip

# Long texts are kept as numbers, since there may be millions of rows.
_ROWS: Final = """
    CREATE TEMP TABLE rows_of_survey AS
    SELECT image, verdict, crack_probability, run_id IN (SELECT unnest($runs)) AS is_new,
           run_number(run_id) AS run, row_rank(run_id, verdict, reject_code, reject_stage) AS rank,
           ood_score > ood_threshold AS unfamiliar,
           hash(model, model_sha256, preprocess) AS scorer,
           TRY_CAST('0x' || left(sha256, 32) AS UHUGEINT) AS content,
           is_departed(reject_stage) AS gone,
           is_passing(verdict, reject_code, reject_stage) AS passing,
           verdict = 'rejected' AND reject_code IS DISTINCT FROM 'not_an_image' AS lost,
           verdict = 'rejected' AND reject_code IS NOT DISTINCT FROM 'not_an_image' AS other_file
    FROM known
"""

_COMPARED: Final = """
    CREATE TEMP TABLE compared AS
    WITH newest AS (
        SELECT image,
               arg_max({'verdict': verdict, 'probability': crack_probability, 'scorer': scorer,
                        'content': content, 'lost': lost, 'unfamiliar': unfamiliar,
                        'gone': gone, 'other_file': other_file}, rank) AS row
        FROM rows_of_survey WHERE is_new GROUP BY image
    ), judged AS (
        SELECT image, content, rank,
               {'verdict': verdict, 'probability': crack_probability, 'scorer': scorer} AS row
        FROM rows_of_survey WHERE NOT is_new AND NOT gone AND NOT passing
    ), earlier AS (
        SELECT image, arg_max(row, rank) AS row FROM judged GROUP BY image
    ), renamed AS (
        SELECT content, arg_max(row, rank) AS row
        FROM judged WHERE content IN (SELECT row.content FROM newest ANTI JOIN earlier USING (image))
        GROUP BY content
    ), paired AS (
        SELECT newest.image, newest.row AS now, coalesce(earlier.row, renamed.row) AS before
        FROM newest LEFT JOIN earlier USING (image) LEFT JOIN renamed ON renamed.content = newest.row.content
        WHERE NOT newest.row.gone
    )
    SELECT image, now.verdict AS verdict, now.probability AS probability, now.lost AS lost,
           now.other_file AS other_file,
           now.unfamiliar AS unfamiliar, before.verdict AS verdict_before,
           CASE WHEN before.scorer = now.scorer THEN before.probability END AS probability_before
    FROM paired
"""

_COUNTS: Final = """
    SELECT count(*) FILTER (NOT other_file),
           count(*) FILTER (verdict = 'crack'),
           count(*) FILTER (lost),
           count(*) FILTER (other_file),
           count(*) FILTER (unfamiliar),
           count(*) FILTER (verdict = 'crack' AND verdict_before IS DISTINCT FROM 'crack'),
           count(*) FILTER (probability - probability_before >= $step)
    FROM compared
"""

_WORTH_A_LOOK: Final = """
    SELECT image, probability, probability_before FROM compared
    WHERE (verdict = 'crack' AND verdict_before IS DISTINCT FROM 'crack')
       OR probability - probability_before >= $step
    ORDER BY probability DESC, image LIMIT $n
"""

_HISTOGRAMS: Final = """
    WITH alike AS (
        SELECT * FROM rows_of_survey
        WHERE verdict <> 'rejected' AND scorer = (
            SELECT arg_max(scorer, rank) FROM rows_of_survey WHERE is_new AND verdict <> 'rejected')
    ), compared_runs AS (
        SELECT DISTINCT run FROM alike WHERE NOT is_new ORDER BY run DESC LIMIT $runs
    )
    SELECT is_new, len(list_filter($edges, lambda edge: edge <= crack_probability)) AS bin, count(*)
    FROM alike WHERE is_new OR run IN (FROM compared_runs)
    GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class ChangedImage:
    """An image to look at.

    Attributes:
        image: Path within the survey.
        probability: Of a crack, now.
        before: What the same model said of an earlier version of the file; None where there was none.
    """

    image: str
    probability: float
    before: float | None


@dataclass(frozen=True, slots=True)
class Changes:
    """Runs compared with all others of their survey.

    Attributes:
        runs: The runs, and how many rows each has.
        rows: Images that they wrote rows for and that are still there. Files that are not images, by name
            or content, do not count.
        cracks: Those with a crack.
        new_cracks: Those whose newest row before said something else, or that had none. An image whose
            name is new is known by its content.
        risen: Images whose probability rose by at least the step since the same model saw them last.
        rejected: Files that could not be scored, `not_images` among them.
        not_images: Files that are not images, by name or content.
        rejected_share: Share of `rows` that could not be scored, 0 to 1.
        unfamiliar_share: Images unlike the training images among those scored, 0 to 1.
        drift: Population stability index of the probabilities against the last runs of the same model; None
            with fewer than 50 images on either side.
        drift_limit: What the index has to reach to say more than chance does; None where there is no index.
        images: The new cracks and risen images, highest probability first.
    """

    runs: dict[str, int]
    rows: int
    cracks: int
    new_cracks: int
    risen: int
    rejected: int
    not_images: int
    rejected_share: float
    unfamiliar_share: float
    drift: float | None
    drift_limit: float | None
    images: tuple[ChangedImage, ...]

    @property
    def drifted(self) -> bool:
        """Whether the distribution of the probabilities has shifted."""
        return self.drift is not None and self.drift_limit is not None and self.drift >= self.drift_limit


def compare_unannounced(
    table: ReportTable, survey: str, announced: Mapping[str, int], *, step: float = 0.2, n: int = 10
) -> Changes:
    """Compare the runs that have not been announced with all others.

    A run that has more rows now than when it was announced, as `announced` says, was not over then, and
    counts as not announced. A probability that rose by `step` has risen; at most `n` images are named.

    Raises:
        ReportError: The report cannot be read.
    """
    new = {run: rows for run, rows in rows_by_run(table, survey).items() if rows > announced.get(run, 0)}
    if not new:
        return Changes({}, 0, 0, 0, 0, 0, 0, 0.0, 0.0, None, None, ())
    with newest_rows(table, survey) as rows:
        try:
            counts, images, histograms = _compare(rows, list(new), step=step, n=n, megabytes=_MEGABYTES)
        except duckdb.OutOfMemoryException:
            counts, images, histograms = _compare(rows, list(new), step=step, n=n)
    total, cracks, lost, not_images, unfamiliar, new_cracks, risen = counts
    after, before = ([0] * (len(_EDGES) + 1) for _ in range(2))
    for is_new, number, count in histograms:
        (after if is_new else before)[number] = count
    drift, drift_limit = measure_drift(after, before)
    return Changes(
        runs=new,
        rows=total,
        cracks=cracks,
        new_cracks=new_cracks,
        risen=risen,
        rejected=lost + not_images,
        not_images=not_images,
        rejected_share=lost / total if total else 0.0,
        unfamiliar_share=unfamiliar / (total - lost) if total > lost else 0.0,
        drift=drift,
        drift_limit=drift_limit,
        images=tuple(ChangedImage(*row) for row in images),
    )


def _compare(
    rows: ds.Dataset, runs: list[str], *, step: float, n: int, megabytes: float | None = None
) -> tuple[_Row, list[_Row], list[_Row]]:
    """Return the counts, the images worth a look, and the histograms."""
    with open_database({"known": scan(rows, _COLUMNS)}, megabytes=megabytes) as database:
        database.execute(_ROWS, {"runs": runs})
        database.execute(_COMPARED)
        counts = database.execute(_COUNTS, {"step": step}).fetchall()[0]
        images = database.execute(_WORTH_A_LOOK, {"step": step, "n": n}).fetchall()
        values = {"runs": _RUNS_TO_COMPARE, "edges": list(_EDGES)}
        return counts, images, database.execute(_HISTOGRAMS, values).fetchall()


def measure_drift(after: list[int], before: list[int]) -> tuple[float, float] | tuple[None, None]:
    """Compute the population stability index of two histograms over the same ranges, and its limit.

    Half an image is added to every range, so that an empty one does not make the index infinite.

    Of two samples of one distribution the index is about chi-squared with one degree of freedom less than
    ranges, times `1/n + 1/m`: see Yurdakul and Naranjo, "Statistical properties of the population stability
    index", 2020. With 50 images each that is 0.36 on average, although nothing has changed.

    Returns:
        The index, 0 for equal shapes, and from where on the histograms differ; None where either holds fewer
        than 50 images.
    """
    n, m = sum(after), sum(before)
    if min(n, m) < _LEAST_IMAGES:
        return None, None
    smoothing = 0.5 * len(after)
    pairs = [
        ((now + 0.5) / (n + smoothing), (then + 0.5) / (m + smoothing))
        for now, then in zip(after, before, strict=True)
    ]
    index = math.fsum((now - then) * math.log(now / then) for now, then in pairs)
    return index, max(_DRIFTED, _CHANCE * (1 / n + 1 / m))
