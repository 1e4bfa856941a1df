"""The command that scores a survey."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import typer

from crackmodel.cli.options import JsonOption, SurveyArgument, SurveyNameOption, with_options
from crackmodel.cli.results import print_result
from crackmodel.settings import ScoreSettings


@with_options
def score(
    survey: SurveyArgument,
    settings: ScoreSettings,
    name: SurveyNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a survey's photographs for cracks into a report.

    Images that the report already holds for this model and tile size are skipped unread, so the command
    can be repeated at any time, and after any crash.

    Example: `crackmodel score photos/bridge-07 --report report`
    """
    from crackmodel.arrow_memory import keep_arrow_small

    keep_arrow_small()
    from crackmodel.cli.progress import ProgressBar
    from crackmodel.cluster.jobs.log_protocol import Recorder, recording
    from crackmodel.scoring.run import run_survey
    from crackmodel.scoring.run_summary import plain_summary
    from crackmodel.surveys.listing import Survey

    # Ray writes what its cluster has to say to stdout, which belongs to the result.
    with redirect_stdout(sys.stderr), ProgressBar(sys.stderr) as progress:
        listener = Recorder(sys.stderr) if recording() else progress
        result = run_survey(Survey.parse(survey, name), settings, listener)
    print_result(result.as_dict(), as_json, lambda: typer.echo(plain_summary(result)))
    result.check_rejected()
