"""Score a survey in a job of a cluster."""

from __future__ import annotations

from typing import Final, get_args

from pydantic import TypeAdapter, ValidationError

from crackmodel.cluster.jobs.command import Command, options, positional
from crackmodel.cluster.jobs.submission import run_job
from crackmodel.errors import ClusterError
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run_events import Event, Listener
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import Survey

_KINDS: Final = {kind.__name__: kind for kind in get_args(Event)}


def score_as_job(survey: Survey, settings: ScoreSettings, address: str, on_event: Listener) -> RunResult:
    """Do what `score_survey` does, in a job.

    Args:
        survey: The survey; a local path has to lead to the same place on every node there.
        settings: How it is scored.
        address: Of the cluster's dashboard.
        on_event: Called with the events of the run, and of the job.

    Raises:
        CrackmodelError: As `score_survey`.
    """
    result = run_job(scoring_command(survey, settings), address, _KINDS, on_event)
    try:
        return TypeAdapter(RunResult).validate_python(result)
    except ValidationError as error:
        raise ClusterError(
            f"The job's result cannot be read: {error.error_count()} fields are missing or wrong.",
            "The report has the rows. Install the same version of crackmodel there and here.",
        ) from error


def scoring_command(survey: Survey, settings: ScoreSettings) -> Command:
    """Return the command of a run, with all settings given here."""
    report = Location.parse(settings.report).uri
    places = {"report": report, "models": Location.parse(settings.models).uri}
    return Command(
        name="score",
        arguments=(*options(settings.given() | places | {"name": survey.name}), *positional([survey.uri])),
        subject={"survey": survey.name, "report": report},
    )
