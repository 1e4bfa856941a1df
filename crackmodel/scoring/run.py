"""Score one survey into a report: list, plan, score, commit, reconcile."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from crackmodel.cluster.session import jobs_address
from crackmodel.errors import ReconciliationError, ReportError
from crackmodel.models.inference.model_file import read_model_file
from crackmodel.models.preprocessing import preprocess_fingerprint
from crackmodel.models.registry.registry import Registry
from crackmodel.reports.maintenance.compaction import compact, delete_replaced, small_files
from crackmodel.reports.maintenance.orphan_files import delete_orphans, sweep
from crackmodel.reports.reading.dataset import newest_run, survey_names
from crackmodel.reports.reading.incremental import ScoringKey, count_missing, pending
from crackmodel.reports.reading.run_statistics import count_rows, top_images, unfamiliar_images
from crackmodel.reports.run_names import name_run, run_time
from crackmodel.reports.survey_notes import bind_source
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.driver.committing import Totals, score_and_commit
from crackmodel.scoring.driver.departures import record_departures
from crackmodel.scoring.own_folders import own_folders
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run_events import (
    ClockBehind,
    CompactionFailed,
    Listener,
    ReportCompacted,
    RunPlanned,
    ignore,
)
from crackmodel.scoring.score_job import score_as_job
from crackmodel.scoring.task import ScoringJob
from crackmodel.settings import ScoreSettings
from crackmodel.surveys.listing import Survey, list_survey

_TOP_IMAGES: Final = 10

_CLOCK_TOLERANCE: Final = timedelta(minutes=1)
"""How far this machine's clock may lie behind the newest run in silence."""


def score_survey(
    survey: str | Path | Survey,
    *,
    report: str | Path | None = None,
    model: str | None = None,
    name: str | None = None,
    on_event: Listener = ignore,
    **settings: Any,
) -> RunResult:
    """Score the images of a survey that the report lacks.

    Safe to repeat: a row is in the report exactly when its shard was committed, so whatever ends a run,
    the next one scores what is left, and a run with nothing left reads no image. Where `RAY_ADDRESS` is the
    `http://` address of a cluster's dashboard, a job there does it: see `crackmodel.scoring.score_job`.

    Args:
        survey: Folder or `s3://`, `gs://` URI; every file below it is looked at, but the report's and the
            models'.
        report: Where the Delta table is or shall be; `report` by default.
        model: Model reference; the model that ships by default.
        name: Name of the survey in the report; the last part of its path by default.
        on_event: Called with each event of the run, in the caller's thread.
        **settings: Any other field of `crackmodel.settings.ScoreSettings`, e.g. `tile=256, workers=0`.

    Returns:
        Counts, the most suspicious images, and where everything is.

    Raises:
        CrackmodelError: What stops a run, with what to do; see `crackmodel.errors`. What was committed
            before stays in the report.
    """
    chosen = ScoreSettings.read(report=str(report) if report is not None else None, model=model, **settings)
    return run_survey(Survey.parse(survey, name), chosen, on_event)


def run_survey(survey: Survey, settings: ScoreSettings, on_event: Listener = ignore) -> RunResult:
    """Do what `score_survey` does, for callers that have settings.

    Raises:
        CrackmodelError: As `score_survey`.
    """
    if (cluster := jobs_address()) and settings.workers != 0:
        return score_as_job(survey, settings, cluster, on_event)
    started = time.monotonic()
    model = read_model_file(Registry(settings.models).resolve(settings.model), settings.engine)
    listing = list_survey(survey, own_folders(settings))
    table = ReportTable.open_or_create(settings.report)
    newest = newest_run(table, survey.name)
    job = ScoringJob(name_run(newest), listing.survey, table.place, model, settings)
    with table.lock(survey.name, job.run_id):
        table.begin(survey.name, job.run_id)
        has_rows = survey.name in survey_names(table)
        bind_source(table.place, survey.name, survey.uri, has_rows=has_rows)
        delete_orphans(table, survey.name)
        if settings.force:
            unscored = listing.files.sort_by("image")
        else:
            unscored = pending(table, listing.files, _key(job), retry_rejected=settings.retry_rejected)
        if newest is not None and (behind := run_time(newest) - datetime.now(UTC)) > _CLOCK_TOLERANCE:
            on_event(ClockBehind(job.run_id, newest, behind.total_seconds()))
        files = _modified_since(unscored, settings.modified_since).slice(0, settings.limit)
        run: dict[str, Any] = {
            "run_id": job.run_id,
            "survey": survey.name,
            "report": table.uri,
            "model": model.reference,
            "listed": listing.files.num_rows,
            "skipped": listing.files.num_rows - unscored.num_rows,
        }
        on_event(RunPlanned(**run, pending=files.num_rows))
        totals = score_and_commit(table, job, files, on_event)
        pa.default_memory_pool().release_unused()  # what is compared and compacted next comes on top
        _reconcile(table, job, files, totals)
        moved, missing = record_departures(table, job, listing.files)
        _tidy(table, job, on_event)
    top = top_images(table, job.run_id, _TOP_IMAGES, survey.name) if totals.images else ()
    odd = unfamiliar_images(table, job.run_id, _TOP_IMAGES, survey.name) if totals.unfamiliar else ()
    lost = totals.rejected.total() - totals.rejected["not_an_image"]
    return RunResult(
        **run,
        **totals.counts(),
        uri=survey.uri,
        postponed=unscored.num_rows - files.num_rows,
        hidden=listing.hidden,
        outside=listing.outside,
        misnamed=listing.misnamed,
        nameless=listing.nameless,
        moved=moved,
        missing=missing,
        seconds=round(time.monotonic() - started, 3),
        top=top,
        too_many_rejected=settings.max_rejected is not None and lost > settings.max_rejected,
        unfamiliar=None if model.distribution is None else totals.unfamiliar,
        least_familiar=odd,
    )


def _modified_since(files: pa.Table, since: datetime | None) -> pa.Table:
    if since is None:
        return files
    return files.filter(pc.greater_equal(files.column("modified_at"), pa.scalar(since)))


def _key(job: ScoringJob) -> ScoringKey:
    """Return what decides, besides the file, whether it has been scored."""
    return ScoringKey(
        survey=job.survey.name,
        model=job.model.reference,
        model_sha256=job.model.sha256,
        preprocess=preprocess_fingerprint(job.settings.tile, job.settings.overlap),
    )


def _tidy(table: ReportTable, job: ScoringJob, on_event: Listener) -> None:
    """Delete orphan files, and compact small ones; an error fails no run."""
    survey, settings = job.survey.name, job.settings
    try:
        sweep(table, survey, job.run_id)
        if not settings.compact_after:
            return
        if len(small_files(table, survey)) < settings.compact_after:
            delete_replaced(table, keep_hours=settings.keep_hours)
            return
        done = compact(table, survey, keep_hours=settings.keep_hours)
        on_event(ReportCompacted(job.run_id, survey, done.files_before, done.files_after))
    except ReportError as error:
        on_event(CompactionFailed(job.run_id, survey, error.problem, error.remedy))


def _reconcile(table: ReportTable, job: ScoringJob, files: pa.Table, totals: Totals) -> None:
    """Check that the report has a row for every file.

    Raises:
        ReconciliationError: The report holds another number of rows of this run than its shards, or
            files without a row.
    """
    if not files.num_rows:
        return
    rows = count_rows(table, job.run_id, job.survey.name).rows
    missing = count_missing(table, files, _key(job), job.run_id)
    if missing or not rows == totals.images == files.num_rows:
        raise ReconciliationError(
            f"Run {job.run_id} had {files.num_rows} files to score and scored {totals.images}; the report "
            f"{table.uri} holds {rows} of its rows and lacks {missing} files.",
            "Run the same command again: files without a row are scored, no row is written twice. "
            "If it happens again, please report it with the output of `crackmodel query 'from runs'`.",
        )
