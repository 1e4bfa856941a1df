"""The command line. Each command imports what it needs when it runs, so `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import crackmodel
from crackmodel.cli.exits import ReportedGroup
from crackmodel.cli.model_commands import (
    compare_models,
    evaluate,
    list_models,
    promote_model,
    show_model,
    train,
)
from crackmodel.cli.options import JsonOption
from crackmodel.cli.report_commands import (
    check_report,
    compact_report,
    query,
    show_history,
    summarise_report,
)
from crackmodel.cli.results import print_result
from crackmodel.cli.score_command import score

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
    print_result(
        {"directory": str(written.directory), "files": len(written.files)},
        as_json,
        lambda: typer.echo(
            f"{len(written.files)} files in {written.directory}\nNext:   crackmodel score {written.directory}"
        ),
    )


app.command()(score)
app.command()(query)
app.command()(sample)
app.command()(train)
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
