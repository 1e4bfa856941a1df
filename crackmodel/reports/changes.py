"""What a run brought that was not known before: new cracks, risen probabilities, and whether to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from crackmodel.reports import ledger
from crackmodel.reports.database import open_database
from crackmodel.reports.table import ReportTable

RUNS_TO_COMPARE: Final = 30

DRIFTED: Final = 0.25
"""Population stability index from which on a distribution is said to have shifted: a common rule of thumb,
see Siddiqi, "Credit Risk Scorecards", Wiley 2006."""

_LEAST_IMAGES: Final = 50
"""With fewer images on either side the index says more about chance than about the photographs."""

_EDGES: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
"""Limits between ten ranges of probability: most photographs lie close to 0, and cracks close to 1."""

_COLUMNS: Final = (
    "image", "verdict", "crack_probability", "ood_score", "ood_threshold", "model", "model_sha256",
    "preprocess", "run_id", "scored_at", "reject_stage",
)  # fmt: skip

# A row of an image that is gone says nothing about photographs; see `crackmodel.scoring.departures`.
_KEPT: Final = "CREATE TEMP TABLE rows_of_survey AS FROM scan WHERE reject_stage IS DISTINCT FROM 'list'"

_COMPARED: Final = """
    CREATE TEMP TABLE compared AS
    WITH ours AS (SELECT * FROM rows_of_survey WHERE run_id = $run),
    earlier AS (
        SELECT image, arg_max({'verdict': verdict, 'probability': crack_probability,
                               'model': model, 'file': model_sha256, 'preprocess': preprocess},
                       scored_at) AS row
        FROM rows_of_survey
        WHERE run_id <> $run AND scored_at < (SELECT min(scored_at) FROM ours)
        GROUP BY image
    )
    SELECT ours.image, ours.verdict, ours.crack_probability AS probability,
           ours.ood_score > ours.ood_threshold AS unfamiliar,
           earlier.row.verdict AS verdict_before,
           CASE WHEN earlier.row.model = ours.model AND earlier.row.file = ours.model_sha256
                     AND earlier.row.preprocess = ours.preprocess
                THEN earlier.row.probability END AS probability_before
    FROM ours LEFT JOIN earlier USING (image)
"""

_COUNTS: Final = """
    SELECT count(*),
           count(*) FILTER (verdict = 'crack'),
           count(*) FILTER (verdict = 'rejected'),
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
    WITH ours AS (SELECT any_value(model) AS model, any_value(model_sha256) AS file,
                         any_value(preprocess) AS preprocess, min(scored_at) AS began
             FROM rows_of_survey WHERE run_id = $run),
    runs AS (
        SELECT run_id FROM rows_of_survey, ours
        WHERE verdict <> 'rejected'
          AND rows_of_survey.model = ours.model AND model_sha256 = ours.file
          AND rows_of_survey.preprocess = ours.preprocess
        GROUP BY run_id, ours.began HAVING min(scored_at) < ours.began AND run_id <> $run
        ORDER BY min(scored_at) DESC LIMIT $runs
    )
    SELECT run_id = $run AS ours,
           len(list_filter($edges, lambda edge: edge <= crack_probability)) AS bin,
           count(*)
    FROM rows_of_survey
    WHERE verdict <> 'rejected' AND (run_id = $run OR run_id IN (SELECT run_id FROM runs))
    GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class ChangedImage:
    """An image that deserves a look.

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
    """A run compared with what its survey's report held before.

    Attributes:
        rows: Images that the run wrote rows for.
        cracks: Those with a crack.
        new_cracks: Those whose newest row before said something else, or that had none.
        risen: Images whose probability rose by at least the step since the same model saw them last.
        rejected_share: Rejected images among the rows, 0 to 1.
        unfamiliar_share: Images unlike the training images among those scored, 0 to 1.
        drift: Population stability index of the probabilities against the last runs of the same model; None
            with fewer than 50 images on either side.
        images: The new cracks and risen images, highest probability first.
    """

    rows: int
    cracks: int
    new_cracks: int
    risen: int
    rejected_share: float
    unfamiliar_share: float
    drift: float | None
    images: tuple[ChangedImage, ...]

    @property
    def drifted(self) -> bool:
        """Whether the probabilities are distributed unlike before."""
        return self.drift is not None and self.drift >= DRIFTED


def compare_run(table: ReportTable, survey: str, run_id: str, *, step: float = 0.2, n: int = 10) -> Changes:
    """Compare a run with the rows that were there before it.

    Args:
        table: The report.
        survey: The run's survey.
        run_id: Name of the run.
        step: By how much a probability has to rise to be told.
        n: How many images to name.

    Raises:
        ReportError: The report cannot be read.
    """
    table.refresh()
    with ledger.reading(table.uri):
        rows = table.dataset(survey).scanner(columns=list(_COLUMNS), cache_metadata=False)
        with open_database({"scan": rows}, _KEPT) as database:
            database.execute(_COMPARED, {"run": run_id})
            counts = database.execute(_COUNTS, {"step": step}).fetchall()[0]
            images = database.execute(_WORTH_A_LOOK, {"step": step, "n": n}).fetchall()
            histograms = database.execute(
                _HISTOGRAMS, {"run": run_id, "runs": RUNS_TO_COMPARE, "edges": list(_EDGES)}
            ).fetchall()
    total, cracks, rejected, unfamiliar, new_cracks, risen = counts
    ours, before = ([0] * (len(_EDGES) + 1) for _ in range(2))
    for is_ours, number, count in histograms:
        (ours if is_ours else before)[number] = count
    return Changes(
        rows=total,
        cracks=cracks,
        new_cracks=new_cracks,
        risen=risen,
        rejected_share=rejected / total if total else 0.0,
        unfamiliar_share=unfamiliar / (total - rejected) if total > rejected else 0.0,
        drift=stability_index(ours, before),
        images=tuple(ChangedImage(*row) for row in images),
    )


def stability_index(ours: list[int], before: list[int]) -> float | None:
    """Compute the population stability index of two histograms over the same ranges.

    Half an image is added to every range, so that an empty one does not make the index infinite.

    Returns:
        0 for equal shapes; None where either holds fewer than 50 images.
    """
    if min(sum(ours), sum(before)) < _LEAST_IMAGES:
        return None
    pairs = zip(_shares(ours), _shares(before), strict=True)
    return math.fsum((now - then) * math.log(now / then) for now, then in pairs)


def _shares(counts: list[int]) -> list[float]:
    return [(count + 0.5) / (sum(counts) + 0.5 * len(counts)) for count in counts]
