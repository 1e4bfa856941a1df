"""Score every survey below a root and say what is new: `python -m flows.nightly ROOT`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from crackmodel.cli.options import (
    EngineOption,
    ForceOption,
    GpusPerTaskOption,
    JsonOption,
    LimitOption,
    MarkMissingOption,
    ModelOption,
    NightMaxRejectedOption,
    OverlapOption,
    ReportOption,
    RetryOption,
    RiseOption,
    RootArgument,
    SinceOption,
    TileOption,
    WorkersOption,
)
from crackmodel.cluster.session import kept_ray
from crackmodel.errors import printable
from crackmodel.scoring.nightly import Night, Outcome, compare_outcome, remember_night
from crackmodel.scoring.nightly_summary import markdown_night, night_rows, plain_night
from crackmodel.scoring.nightly_surveys import surveys_tonight
from crackmodel.scoring.result import RunResult
from crackmodel.settings import EngineName, Gpus, NonNegative, Positive, ScoreSettings, TilePixels
from crackmodel.surveys.discovery import RosterEntry
from flows.prefect_progress import ProgressArtifact, tell_too_many_rejected
from flows.running import run_embedded
from flows.score import score_shards


@task(
    name="find-surveys", task_run_name="find surveys", retries=0, cache_policy=NO_CACHE, persist_result=False
)
def find(root: str, report: str | None) -> tuple[RosterEntry, ...]:
    """Read the roster, or the root's folders."""
    return surveys_tonight(root, report)


@task(
    name="compare",
    task_run_name="compare {entry.name}",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compare(entry: RosterEntry, result: RunResult, rise: float) -> Outcome:
    """Compare a run, and those that no night has told of, with what the report held before them."""
    return compare_outcome(entry, result, rise=rise)


@task(
    name="publish-night",
    task_run_name="publish night",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_night(night: Night) -> None:
    """Put the night's summary where Prefect shows it."""
    create_markdown_artifact(
        key="night", markdown=markdown_night(night), description=f"The night of {night.root}"
    )
    create_table_artifact(key="night-surveys", table=night_rows(night), description="A row per survey")


@task(
    name="remember-told",
    task_run_name="remember told",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def remember_told(night: Night) -> None:
    """Note in the report what was told, so that the next night tells what is new since."""
    remember_night(night)


# A server refuses a run whose parameters these types forbid; here the settings do, in their own words.
@flow(name="nightly", flow_run_name="nightly {root}", persist_result=False, validate_parameters=False)
def nightly(
    root: str,
    report: str | None = None,
    model: str | None = None,
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
    rise: Annotated[float, Field(ge=0, le=1)] = 0.2,
) -> Night:
    """Score every survey below a root into one report, and say what is new and what needs a person.

    A survey that fails stops no other. Repeated, it only lists: what is scored is not scored again.

    Args:
        root: Folder or `s3://`, `gs://` URI that holds the surveys' folders, or a `surveys.toml`.
        report: Delta table to write; `CRACKMODEL_REPORT`, else `report`.
        model: Model reference; `CRACKMODEL_MODEL`, else the model that ships.
        tile: Edge of a tile in pixels, for surveys that name none of their own.
        overlap: Overlap of tiles in pixels.
        engine: `litert`, `litert-int8` or `tensorflow`.
        workers: Parallel tasks; 0 scores in the flow's own process, without Ray.
        gpus_per_task: GPUs of each task, or a share of one; for the engine `tensorflow`.
        limit: Score at most this many images of each survey now.
        since: Score only files modified since a date, or for `36h`, `7d`, `2w`.
        retry_rejected: Read rejected images again though they did not change.
        force: Score images again though the report holds them.
        mark_missing: Let images that are gone from their survey count as vanished in the report.
        max_rejected: A survey with more rejected images needs a person, and the run fails at its end.
        rise: An image whose probability rose by so much needs a look.

    Returns:
        What became of every survey.

    Raises:
        NightIncomplete: Surveys failed or have too many rejected images, after all others were done.
        ReportError: It cannot be noted what was told, and the next night is going to tell it again.
        SurveyError: There is no survey.
    """
    log = get_run_logger()
    settings = {
        "report": report,
        "model": model,
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
    outcomes: list[Outcome] = []
    with ProgressArtifact("night-progress", log) as progress, kept_ray():
        entries = find(root, report)
        for entry in entries:
            progress.show(
                100 * len(outcomes) / len(entries),
                f"{len(outcomes):,} of {len(entries):,} surveys done; now {printable(entry.name)}",
            )
            given = settings | {"name": entry.name, "tile": entry.tile or tile}
            outcomes.append(_score_one(entry, given, rise))
            log.info("%s", outcomes[-1].headline)
        progress.show(100, f"{len(outcomes):,} of {len(outcomes):,} surveys done")
    night = Night(root, tuple(outcomes))
    publish_night(night)
    remembered = remember_told(night, return_state=True)
    night.check()
    remembered.result()
    return night


def _score_one(entry: RosterEntry, settings: dict[str, Any], rise: float) -> Outcome:
    scored = score_shards(entry.uri, settings, return_state=True)
    if not scored.is_completed():
        return _failed(entry, scored)
    if scored.result().too_many_rejected:
        tell_too_many_rejected(scored.result())
    compared = compare(entry, scored.result(), rise, return_state=True)
    return compared.result() if compared.is_completed() else _failed(entry, compared)


def _failed(entry: RosterEntry, state: State[Any]) -> Outcome:
    error = state.result(raise_on_failure=False)
    return Outcome(entry, problem=str(error) or type(error).__name__)


def main(
    root: RootArgument,
    report: ReportOption = None,
    model: ModelOption = None,
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
    max_rejected: NightMaxRejectedOption = None,
    rise: RiseOption = 0.2,
    as_json: JsonOption = False,
) -> None:
    """Score every survey below a folder through Prefect, and say what is new.

    Example: `python -m flows.nightly photos --report report`
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

    def run() -> None:
        state = nightly(root, rise=rise, **settings, return_state=True)
        found = state.result(raise_on_failure=False)
        night = getattr(found, "night", found)
        if isinstance(night, Night):
            text = json.dumps(asdict(night), default=str) if as_json else plain_night(night)
            print(text, file=sys.stdout)
        if isinstance(found, BaseException):
            raise found

    run_embedded(run, check=lambda: ScoreSettings.read(**settings))


if __name__ == "__main__":
    typer.run(main)
