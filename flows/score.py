"""Score a survey as a Prefect flow: `python -m flows.score SURVEY`."""

from __future__ import annotations

from typing import Any

import typer
from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from crackmodel.cli.exits import run_command
from crackmodel.cli.options import SurveyArgument, SurveyNameOption, with_options, with_parameters
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run import score_survey
from crackmodel.scoring.run_summary import markdown_summary, plain_summary, top_detections
from crackmodel.settings import ScoreSettings
from crackmodel.surveys.listing import Survey
from flows.prefect_progress import PrefectProgress, emit_too_many_rejected
from flows.running import run_embedded, run_task


def _title(survey: str | Survey, name: str | None, given: dict[str, Any]) -> str:
    return f"score {name or survey}"


@run_task(name="score-shards", task_run_name=lambda: _title(**runtime.task_run.parameters))
def score_shards(survey: str | Survey, name: str | None, given: dict[str, Any]) -> RunResult:
    """Drive the run on Ray; this task is the driver."""
    with PrefectProgress(get_run_logger()) as progress:
        return score_survey(survey, name=name, on_event=progress, **given)


@run_task(name="publish-summary")
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
@with_parameters
def score(survey: str, settings: ScoreSettings, name: str | None = None) -> RunResult:
    """Score a survey's photographs for cracks into a report.

    Args:
        survey: Folder or `s3://`, `gs://` URI with photographs.
        settings: How it is scored.
        name: The survey's name in the report; the folder's by default.

    Returns:
        Counts, the most suspicious images, and where everything is.

    Raises:
        CrackmodelError: What stopped the run, or `TooManyRejected` after it; the flow run is Failed.
    """
    result = score_shards(survey, name, settings.given())
    publish_summary(result)
    if result.too_many_rejected:
        emit_too_many_rejected(result)
        get_run_logger().error("%s", plain_summary(result))
    result.check_rejected()
    return result


@with_options
def main(survey: SurveyArgument, settings: ScoreSettings, name: SurveyNameOption = None) -> None:
    """Score a survey through Prefect, with run names, logs and artifacts.

    Example: `python -m flows.score photos/bridge-07 --report report`
    """
    result = run_embedded(lambda: score(survey, name=name, **settings.given()))
    typer.echo(plain_summary(result))


if __name__ == "__main__":
    run_command(main)
