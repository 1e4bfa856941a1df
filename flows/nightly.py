"""Score every survey below a root and say what is new: `python -m flows.nightly ROOT`."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

import typer
from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from crackmodel.cli.exits import run_command
from crackmodel.cli.options import JsonOption, RootArgument, with_options, with_parameters
from crackmodel.cluster.session import shared_ray_session
from crackmodel.scoring.nightly import (
    NightlyRun,
    SurveyOutcome,
    compare_outcome,
    find_nightly_surveys,
    mark_night_announced,
)
from crackmodel.scoring.nightly_summary import markdown_night, night_rows, plain_night
from crackmodel.scoring.result import RunResult
from crackmodel.settings import NightlySettings, ScoreSettings
from crackmodel.surveys.discovery import RosterEntry
from crackmodel.text import printable
from flows.prefect_progress import ProgressArtifact, emit_too_many_rejected
from flows.running import run_embedded, run_task
from flows.score import score_shards


@run_task(name="find-surveys", task_run_name="find surveys")
def find(root: str, settings: ScoreSettings) -> tuple[RosterEntry, ...]:
    """Read the roster, or the root's folders."""
    return find_nightly_surveys(root, settings)


@run_task(name="compare", task_run_name="compare {entry.name}")
def compare(entry: RosterEntry, result: RunResult, rise: float) -> SurveyOutcome:
    """Compare a run, and those that were not announced yet, with what the report held before."""
    return compare_outcome(entry, result, rise=rise)


@run_task(name="publish-night", task_run_name="publish night")
def publish_night(night: NightlyRun) -> None:
    """Put the night's summary where Prefect shows it."""
    create_markdown_artifact(
        key="night", markdown=markdown_night(night), description=f"The night of {night.root}"
    )
    create_table_artifact(key="night-surveys", table=night_rows(night), description="A row per survey")


@run_task(name="mark-announced", task_run_name="mark announced")
def mark_announced(night: NightlyRun) -> None:
    """Note in the report what was announced, so that the next night does not repeat it."""
    mark_night_announced(night)


# A server refuses a run whose parameters these types forbid; here the settings do, in their own words.
@flow(name="nightly", flow_run_name="nightly {root}", persist_result=False, validate_parameters=False)
@with_parameters
def nightly(root: str, settings: NightlySettings) -> NightlyRun:
    """Score every survey below a root into one report, and say what is new and what needs attention.

    A survey that fails stops no other. Repeated, it only lists: what is scored is not scored again.

    Args:
        root: Folder or `s3://`, `gs://` URI that holds the surveys' folders, or a `surveys.toml`.
        settings: How each survey is scored; the tile is for those that name none of their own.

    Returns:
        What became of every survey.

    Raises:
        NightIncomplete: Surveys failed or have too many rejected images, after all others were done.
        ReportError: It cannot be noted what was announced; the next night is going to announce it again.
        SurveyError: There is no survey.
    """
    log = get_run_logger()
    given = settings.model_dump(exclude_unset=True, exclude={"rise"})
    outcomes: list[SurveyOutcome] = []
    with ProgressArtifact("night-progress", log) as progress, shared_ray_session():
        entries = find(root, settings)
        for entry in entries:
            progress.show(
                100 * len(outcomes) / len(entries),
                f"{len(outcomes):,} of {len(entries):,} surveys done; now {printable(entry.name)}",
            )
            own = given | ({"tile": entry.tile} if entry.tile else {})
            outcomes.append(_score_one(entry, own, settings.rise))
            log.info("%s", outcomes[-1].headline)
        progress.show(100, f"{len(outcomes):,} of {len(outcomes):,} surveys done")
    night = NightlyRun(root, tuple(outcomes))
    publish_night(night)
    marked = mark_announced(night, return_state=True)
    night.check()
    marked.result()
    return night


def _score_one(entry: RosterEntry, given: dict[str, Any], rise: float) -> SurveyOutcome:
    scored = score_shards(entry, entry.name, given, return_state=True)
    if not scored.is_completed():
        return _failed(entry, scored)
    if scored.result().too_many_rejected:
        emit_too_many_rejected(scored.result())
    compared = compare(entry, scored.result(), rise, return_state=True)
    return compared.result() if compared.is_completed() else _failed(entry, compared)


def _failed(entry: RosterEntry, state: State[Any]) -> SurveyOutcome:
    error = state.result(raise_on_failure=False)
    return SurveyOutcome(entry, problem=str(error) or type(error).__name__)


@with_options
def main(root: RootArgument, settings: NightlySettings, as_json: JsonOption = False) -> None:
    """Score every survey below a folder through Prefect, and say what is new.

    Example: `python -m flows.nightly photos --report report`
    """
    # Ray writes what its cluster has to say to stdout, which belongs to the result.
    with redirect_stdout(sys.stderr):
        state: Any = run_embedded(lambda: nightly(root, **settings.given(), return_state=True))
        found = state.result(raise_on_failure=False)
    night = getattr(found, "night", found)
    if isinstance(night, NightlyRun):
        typer.echo(json.dumps(night.as_dict(), default=str) if as_json else plain_night(night))
    if isinstance(found, BaseException):
        raise found


if __name__ == "__main__":
    run_command(main)
