"""The command line. Each command imports what it needs when it runs, so `--help` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import crackmodel
from crackmodel.cli.evaluate_command import compare_models, evaluate
from crackmodel.cli.exits import ReportedGroup
from crackmodel.cli.model_commands import list_models, model_summary, print_model, promote_model, show_model
from crackmodel.cli.options import (
    DatasetsArgument,
    JsonOption,
    ModelNameOption,
    SurveyArgument,
    SurveyNameOption,
    with_options,
)
from crackmodel.cli.report_commands import check_report, compact_report, show_history, summarise_report
from crackmodel.settings import ReportSettings, ScoreSettings, TrainSettings

app = typer.Typer(
    name="crackmodel",
    cls=ReportedGroup,
    help="Find cracks in concrete, in any number of inspection photographs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"crackmodel {crackmodel.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
    from crackmodel.scoring.run import score_survey
    from crackmodel.scoring.run_summary import plain_summary

    # Ray writes what its cluster has to say to stdout, which belongs to the result.
    with redirect_stdout(sys.stderr), ProgressBar(sys.stderr) as progress:
        listener = Recorder(sys.stderr) if recording() else progress
        result = score_survey(survey, name=name, on_event=listener, **settings.given())
    _print(result.as_dict(), as_json, lambda: typer.echo(plain_summary(result)))
    result.check_rejected()


@app.command()
@with_options
def query(
    sql: Annotated[str, typer.Argument(help="One read-only SQL statement (DuckDB's dialect).")],
    settings: ReportSettings,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["table", "json", "csv", "parquet"], typer.Option(help="How to print the rows.")
    ] = "table",
) -> None:
    """Query a report with SQL: views `report`, `latest`, `tiles`, `rejected`, `unfamiliar`, `runs`.

    Example: `crackmodel query "select image, crack_probability from latest where verdict = 'crack'"`
    """
    from crackmodel.reports.reading.output import LONGEST_TABLE, write_result
    from crackmodel.reports.reading.query import open_report

    opened = open_report(settings.report)
    rows = opened.sql(sql, limit=LONGEST_TABLE + 1 if format == "table" else None)
    write_result(rows, format, sys.stdout.buffer if format == "parquet" else sys.stdout)


@app.command()
def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to write to; made if it is missing.")],
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Write a small synthetic survey: drawn slabs with and without cracks, and some broken files.

    Example: `crackmodel sample sample-survey && crackmodel score sample-survey`
    """
    from crackmodel.surveys.sample import write_sample

    written = write_sample(directory, seed=seed)
    _print(
        {"directory": str(written.directory), "files": len(written.files)},
        as_json,
        lambda: typer.echo(
            f"{len(written.files)} files in {written.directory}\nNext:   crackmodel score {written.directory}"
        ),
    )


@app.command()
@with_options
def train(
    datasets: DatasetsArgument,
    settings: TrainSettings,
    name: ModelNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a crack classifier on labelled images and put it into the registry.

    Example: `crackmodel train metu --name walls --weights mobilenet_v2_no_top.h5 --promote`
    """
    from crackmodel.cli.progress import TrainingLines
    from crackmodel.cluster.jobs.log_protocol import Recorder, recording
    from crackmodel.models.training.train import train_model

    # As for score: stdout belongs to the result.
    with redirect_stdout(sys.stderr):
        listener = Recorder(sys.stderr) if recording() else TrainingLines(sys.stderr)
        version = train_model(datasets, name=name, on_event=listener, **settings.given())
    _print(model_summary(version), as_json, lambda: print_model(version))


app.command()(evaluate)
models_app = typer.Typer(help="List, show and promote trained models.", no_args_is_help=True)
app.add_typer(models_app, name="models")
report_app = typer.Typer(help="Check, compact and summarise a report.", no_args_is_help=True)
app.add_typer(report_app, name="report")
report_app.command("summary")(summarise_report)
report_app.command("check")(check_report)
report_app.command("compact")(compact_report)
report_app.command("history")(show_history)
models_app.command("list")(list_models)
models_app.command("show")(show_model)
models_app.command("promote")(promote_model)
models_app.command("compare")(compare_models)


def _print(values: dict[str, Any], as_json: bool, for_people: Callable[[], None]) -> None:
    """Give scripts one JSON object, whoever follows a job a record, and people sentences."""
    from crackmodel.cluster.jobs.log_protocol import recording, write_result

    if as_json and recording():
        write_result(values, sys.stdout)
    elif as_json:
        typer.echo(json.dumps(values, default=str, allow_nan=False))
    else:
        for_people()
