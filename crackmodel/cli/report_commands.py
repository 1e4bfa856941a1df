"""The commands that query a report and look after it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crackmodel.cli.options import JsonOption, with_options
from crackmodel.errors import ReportBusy, UsageError
from crackmodel.settings import CompactSettings, ReportSettings
from crackmodel.text import printable

if TYPE_CHECKING:
    from crackmodel.reports.table import ReportTable


@with_options
def query(
    sql: Annotated[str, typer.Argument(help="One read-only SQL statement (DuckDB's dialect).")],
    settings: ReportSettings,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["table", "json", "csv", "parquet"], typer.Option(help="How to print the rows.")
    ] = "table",
) -> None:
    """Query a report with SQL: `report`, `latest`, `current`, `tiles`, `rejected`, `unfamiliar`, `runs`.

    Example: `crackmodel query "select image, crack_probability from latest where verdict = 'crack'"`
    """
    from crackmodel.reports.reading.output import LONGEST_TABLE, write_result
    from crackmodel.reports.reading.query import open_report

    opened = open_report(settings.report)
    rows = opened.sql(sql, limit=LONGEST_TABLE + 1 if format == "table" else None)
    write_result(rows, format, sys.stdout.buffer if format == "parquet" else sys.stdout)


@with_options
def summarise_report(settings: ReportSettings, as_json: JsonOption = False) -> None:
    """Count the images of every survey by what the report says of them now.

    Images that are known to be gone from the survey, or to have another name there, count as departed alone.

    Example: `crackmodel report summary`
    """
    from crackmodel.reports.reading.output import write_result
    from crackmodel.reports.reading.query import open_report
    from crackmodel.reports.reading.views import SUMMARY

    with open_report(settings.report) as opened:
        surveys = opened.sql(SUMMARY)
        known = {"report": opened.uri, "version": opened.version}
    if as_json:
        rows = [row | {"last_scored": row["last_scored"].isoformat()} for row in surveys.to_pylist()]
        typer.echo(json.dumps(known | {"surveys": rows}))
    else:
        write_result(surveys, "table", sys.stdout)


@with_options
def check_report(settings: ReportSettings, as_json: JsonOption = False) -> None:
    """Read every file of a report and compare it with the log; exit with 1 if anything is wrong.

    Looks for rows that are there twice, and for files that are missing, altered, of another schema or
    number of rows than the log says, or that nobody committed. Changes nothing.

    Example: `crackmodel report check --report report`
    """
    from crackmodel.reports.maintenance.integrity import check_report as check

    checked = check(_open(settings))
    if as_json:
        typer.echo(json.dumps(asdict(checked)))
    else:
        for finding in checked.findings:
            typer.echo(printable(f"{finding.kind}: {finding.problem} {finding.remedy}"))
        typer.echo(
            f"{printable(checked.report)}, version {checked.version}: {checked.files:,} files, "
            f"{checked.rows:,} rows, {checked.bytes / 2**20:,.1f} MiB"
            + ("" if checked.findings else "; nothing is wrong")
        )
        if checked.without_hash:
            typer.echo(
                f"  {checked.without_hash:,} files have no hash in their names and were decoded instead"
            )
        if checked.uncommitted:
            typer.echo(
                f"  {checked.uncommitted:,} files are about to be committed, or a run died before it did: "
                "readers of Parquet folders count their rows, and the survey's next run deletes them"
            )
        if checked.replaced:
            typer.echo(
                f"  {checked.replaced:,} replaced files are kept, and readers of Parquet folders count their "
                "rows twice; crackmodel report compact deletes them"
            )
    checked.require_sound()


@with_options
def compact_report(
    settings: CompactSettings,
    survey: Annotated[str | None, typer.Option("--survey", help="Only this one. [default: all]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Put the small files of a report together, and delete what they replaced.

    No row changes. By default nothing of the replaced files is kept, because a plain
    `pandas.read_parquet(report)` would count their rows a second time. A survey that is being scored is
    left as it is. Runs do this themselves when a survey has many small files.

    Example: `crackmodel report compact --report report`
    """
    from crackmodel.reports.maintenance.compaction import compact
    from crackmodel.reports.reading.dataset import survey_names

    table = _open(settings)
    surveys = survey_names(table)
    if survey is not None and survey not in surveys:
        raise UsageError(
            f"The report {table.uri} has no survey {survey!r}.", f"It has {', '.join(surveys) or 'none'}."
        )
    done, busy = [], []
    for name in surveys if survey is None else [survey]:
        try:
            with table.lock(name, "compaction"):
                compacted = compact(
                    table, name, target_bytes=settings.target_size * 2**20, keep_hours=settings.keep_hours
                )
        except ReportBusy as error:
            busy.append(error)
            continue
        done.append(compacted)
        if not as_json:
            typer.echo(
                f"{name}: {compacted.files_before:,} files, {compacted.bytes_before / 2**20:,.1f} MiB -> "
                f"{compacted.files_after:,} files, {compacted.bytes_after / 2**20:,.1f} MiB; "
                f"{compacted.deleted:,} replaced files deleted"
            )
    if as_json:
        typer.echo(json.dumps({"report": table.uri, "surveys": [asdict(compacted) for compacted in done]}))
    if busy:
        raise busy[0]


@with_options
def show_history(
    settings: ReportSettings,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many commits at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the last commits to a report, newest first.

    Example: `crackmodel report history --limit 5`
    """
    import pyarrow as pa

    from crackmodel.reports.maintenance.commit_history import history
    from crackmodel.reports.reading.output import write_result

    table = _open(settings)
    commits = [commit.as_dict() for commit in history(table, limit)]
    if as_json:
        typer.echo(json.dumps({"report": table.uri, "commits": commits}))
    else:
        write_result(pa.Table.from_pylist(commits, _history_columns()), "table", sys.stdout)


def _history_columns() -> Any:
    import pyarrow as pa

    texts = {name: pa.string() for name in ("at", "operation", "run", "survey")}
    numbers = {name: pa.int64() for name in ("files", "replaced", "rows")}
    return pa.schema({"version": pa.int64()} | texts | numbers)


def _open(settings: ReportSettings) -> ReportTable:
    from crackmodel.reports.table import ReportTable

    return ReportTable.open(settings.report)
