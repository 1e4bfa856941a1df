"""Score a survey as a Prefect flow: `python -m flows.score SURVEY`."""

from __future__ import annotations

from typing import Any

import typer
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from crackmodel.cli.options import (
    EngineOption,
    ForceOption,
    GpusPerTaskOption,
    LimitOption,
    MarkMissingOption,
    MaxRejectedOption,
    ModelOption,
    NameOption,
    OverlapOption,
    ReportOption,
    RetryOption,
    SinceOption,
    SurveyArgument,
    TileOption,
    WorkersOption,
)
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run import score_survey
from crackmodel.scoring.run_summary import markdown_summary, plain_summary, top_detections
from crackmodel.settings import EngineName, Gpus, NonNegative, Positive, ScoreSettings, TilePixels
from flows.prefect_progress import RunTeller, tell_too_many_rejected
from flows.running import run_embedded


def _title(survey: str, settings: dict[str, Any]) -> str:
    return f"score {settings.get('name') or survey}"


# Ray repeats a shard whose worker died; repeating the run as well would only hide what is wrong.
@task(
    name="score-shards",
    task_run_name=lambda: _title(**runtime.task_run.parameters),
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def score_shards(survey: str, settings: dict[str, Any]) -> RunResult:
    """Drive the run on Ray; this task is the driver."""
    with RunTeller(get_run_logger()) as teller:
        return score_survey(survey, on_event=teller, **settings)


@task(name="publish-summary", retries=0, cache_policy=NO_CACHE, persist_result=False)
def publish_summary(result: RunResult) -> None:
    """Put the summary and the top detections where Prefect shows them."""
    create_markdown_artifact(
        key="score-summary", markdown=markdown_summary(result), description=f"Scoring of {result.survey}"
    )
    create_table_artifact(
        key="top-detections",
        table=top_detections(result),
        description=f"Images of {result.survey} with the highest probability of a crack",
    )


# A server refuses a run whose parameters these types forbid; here the settings do, in their own words.
@flow(name="score-survey", flow_run_name="score {survey}", persist_result=False, validate_parameters=False)
def score(
    survey: str,
    report: str | None = None,
    model: str | None = None,
    name: str | None = None,
    tile: TilePixels | None = None,
    overlap: NonNegative | None = None,
    engine: EngineName | None = None,
    workers: NonNegative | None = None,
    gpus_per_task: Gpus | None = None,
    limit: Positive | None = None,
    since: str | None = None,
    retry_rejected: bool = False,
    force: bool = False,
    mark_missing: bool = False,
    max_rejected: NonNegative | None = None,
) -> RunResult:
    """Score a survey's photographs for cracks into a report.

    Args:
        survey: Folder or `s3://`, `gs://` URI with photographs.
        report: Delta table to write; `CRACKMODEL_REPORT`, else `report`.
        model: Model reference; `CRACKMODEL_MODEL`, else the model that ships.
        name: The survey's name in the report; the folder's by default.
        tile: Edge of a tile in pixels.
        overlap: Overlap of tiles in pixels.
        engine: `litert`, `litert-int8` or `tensorflow`.
        workers: Parallel tasks; 0 scores in the flow's own process, without Ray.
        gpus_per_task: GPUs of each task, or a share of one; for the engine `tensorflow`.
        limit: Score at most this many images now.
        since: Score only files modified since a date, or for `36h`, `7d`, `2w`.
        retry_rejected: Read rejected images again though they did not change.
        force: Score images again though the report holds them.
        mark_missing: Let images that are gone from the survey count as vanished in the report.
        max_rejected: Fail the run, after everything else is scored, if more images are rejected.

    Returns:
        Counts, the most suspicious images, and where everything is.

    Raises:
        CrackmodelError: What stopped the run, or `TooManyRejected` after it; the flow run is Failed.
    """
    settings = {
        "report": report,
        "model": model,
        "name": name,
        "tile": tile,
        "overlap": overlap,
        "engine": engine,
        "workers": workers,
        "gpus_per_task": gpus_per_task,
        "limit": limit,
        "since": since,
        "retry_rejected": retry_rejected or None,
        "force": force or None,
        "mark_missing": mark_missing or None,
        "max_rejected": max_rejected,
    }
    result = score_shards(survey, settings)
    publish_summary(result)
    if result.too_many_rejected:
        tell_too_many_rejected(result)
        get_run_logger().error("%s", plain_summary(result))
    result.check_rejected()
    return result


def main(
    survey: SurveyArgument,
    report: ReportOption = None,
    model: ModelOption = None,
    name: NameOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    gpus_per_task: GpusPerTaskOption = None,
    limit: LimitOption = None,
    since: SinceOption = None,
    retry_rejected: RetryOption = False,
    force: ForceOption = False,
    mark_missing: MarkMissingOption = False,
    max_rejected: MaxRejectedOption = None,
) -> None:
    """Score a survey through Prefect, with run names, logs and artifacts.

    Example: `python -m flows.score photos/bridge-07 --report report`
    """
    settings: dict[str, Any] = {
        "report": report,
        "model": model,
        "tile": tile,
        "overlap": overlap,
        "engine": engine,
        "workers": workers,
        "gpus_per_task": gpus_per_task,
        "limit": limit,
        "since": since,
        "retry_rejected": retry_rejected,
        "force": force,
        "mark_missing": mark_missing,
        "max_rejected": max_rejected,
    }
    result = run_embedded(
        lambda: score(survey, name=name, **settings), check=lambda: ScoreSettings.read(**settings)
    )
    typer.echo(plain_summary(result))


if __name__ == "__main__":
    typer.run(main)
