"""Notes in a report: where photographs are, which runs were announced.

`_surveys/<survey>.json` binds a survey's name to one folder: two folders called `photos` are two surveys.
`_surveys/<survey>.told` lists the runs that had been announced when it was written, and stays as it is. Each
later run gets an empty file `_surveys/<survey>.announced/<run>.<rows>`. So no note is read, changed and
written back, and two writers cannot lose each other's notes, in a bucket without locks either.

The underscore keeps Parquet readers and Delta's vacuum away from the folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from crackmodel.errors import ReportDamaged, ReportError, ReportIncompatible
from crackmodel.reports.report_location import locate_report, writing
from crackmodel.reports.schema import check_name, partition_folder
from crackmodel.storage.advice import raised_as
from crackmodel.storage.location import Location
from crackmodel.text import printable

SURVEY_FOLDER: Final = "_surveys"
"""Inside the report, beside the survey's rows."""


def bind_source(report: Location, survey: str, uri: str, *, has_rows: bool = True) -> None:
    """Bind a survey's name to the folder of its photographs, or check that it still is.

    Keys and options in the URI do not count and are not kept. The caller holds the survey's lock. Where the
    report has no rows of the survey, nothing has been announced.

    Raises:
        ReportIncompatible: The report holds a survey of that name from another folder.
        ReportWriteFailed: A note cannot be read or written.
        UsageError: The survey's name cannot be part of a path.
    """
    note = _note(report, check_name(survey), "json")
    source = _without_access(uri)
    with writing(note.uri):
        known = _source(_read(note))
        if known is None:
            _write(note, {"survey": survey, "uri": source})
    if known is not None and _decoded(known) != _decoded(source):
        raise ReportIncompatible(
            f"The report {report} holds survey {survey!r} from {printable(known)}, not {printable(source)}.",
            "Give this survey a name of its own with --name, or use another report; "
            f"if the survey has moved, delete {note}.",
        )
    with contextlib.suppress(ReportDamaged):  # the next night says so
        if not has_rows and read_announced(report, survey) is None:
            mark_announced(report, survey, {})


def knows_survey(report: str, survey: str) -> bool:
    """Whether a report, if it exists, has or had rows of a survey.

    Raises:
        UsageError: The report's address or the survey's name makes no sense.
        ReportError: The storage cannot be reached.
    """
    place = locate_report(report)
    with raised_as(ReportError, f"The report {place} cannot be read"):
        return place.exists(partition_folder(survey)) or _note(place, survey, "json").exists()


def read_announced(report: Location, survey: str) -> dict[str, int] | None:
    """Return the survey's runs that have been announced, and how many rows each had then.

    Returns:
        None without a note: in reports of before there were such notes.

    Raises:
        ReportDamaged: The note is damaged.
        ReportError: It cannot be read.
    """
    note = _note(report, survey, "told")
    with raised_as(ReportError, f"{note} cannot be read"):
        content = _read(note)
        files = list(_note(report, survey, "announced").iterdir())
    if content is None and not files:
        return None
    announced = _runs(content)
    if announced is None:
        raise ReportDamaged(
            f"{note} is {'missing' if content is None else 'damaged'}, so nobody knows which runs "
            f"of {survey} have been announced.",
            "The next night counts all earlier runs as announced, says so, and writes the file again; "
            "to avoid that, restore the file from a backup.",
        )
    for file in files:
        run, _, rows = file.name.rpartition(".")
        if run and rows.isdecimal():
            run = unquote(run)
            announced[run] = max(int(rows), announced.get(run, 0))
    return announced


def mark_announced(
    report: Location, survey: str, runs: Mapping[str, int], presumed: Mapping[str, int] | None = None
) -> None:
    """Note that runs have been announced, beside those noted before.

    Args:
        report: The report's folder.
        survey: The survey's name.
        runs: How many rows each run had. Each gets a file of its own, so that no other writer loses it.
        presumed: Runs that count as announced; noted together, and only where no note can be read.

    Raises:
        ReportWriteFailed: A note cannot be read or written.
    """
    try:
        known = read_announced(report, survey)
    except ReportDamaged:
        known = None
    folder = _note(report, check_name(survey), "announced")
    with writing(folder.uri):
        if known is None:
            _write(_note(report, survey, "told"), {"survey": survey, "told": dict(presumed or {})})
            known = {}
        if folder.local is not None:
            folder.filesystem.create_dir(folder.root, recursive=True)
        for run, rows in runs.items():
            if rows > known.get(run, 0):
                path = folder.inside(f"{quote(run, safe='')}.{rows}")
                folder.filesystem.open_output_stream(path).close()


def damaged_notes(report: Location) -> Iterator[tuple[str, str, str]]:
    """Find the notes that are damaged.

    Yields:
        The path inside the report, what is wrong, and what to do.

    Raises:
        OSError: The storage does not give a note away.
    """
    names = [note.name for note in (report / SURVEY_FOLDER).iterdir()]
    notes = [name.rpartition(".") for name in names if not name.startswith(".")]  # others are being written
    for survey in sorted({survey for survey, _, kind in notes if kind == "json"}):
        if _source(_read(_note(report, survey, "json"))) is None:
            path = f"{SURVEY_FOLDER}/{survey}.json"
            yield (
                path,
                f"{path} is damaged, so nobody knows where the photographs of {survey} are.",
                "The survey's next run writes it again: make sure that it gets the right folder.",
            )
    for survey in sorted({survey for survey, _, kind in notes if kind in ("told", "announced")}):
        try:
            read_announced(report, survey)
        except ReportDamaged as error:
            yield f"{SURVEY_FOLDER}/{survey}.told", error.problem, error.remedy


def _note(report: Location, survey: str, kind: str) -> Location:
    return report / SURVEY_FOLDER / f"{survey}.{kind}"


def _source(content: bytes | None) -> str | None:
    """Return the folder that a note names; None if it is missing or damaged."""
    try:
        uri = json.loads(content or b"")["uri"]
    except (ValueError, KeyError, TypeError):
        return None
    return uri if isinstance(uri, str) else None


def _runs(content: bytes | None) -> dict[str, int] | None:
    """Return a note's runs and their rows; None if it is missing or damaged."""
    try:
        return {str(run): int(rows) for run, rows in json.loads(content or b"")["told"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _without_access(uri: str) -> str:
    """Remove keys, which must not be written down, and options from a URI."""
    if "://" not in uri:
        return uri.rstrip("/") or "/"
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _decoded(source: str) -> str:
    """Decode what is percent-encoded in a URI, but not in a path."""
    return unquote(source) if "://" in source else source


def _read(note: Location) -> bytes | None:
    try:
        return note.read_bytes()
    except FileNotFoundError:
        return None


def _write(note: Location, content: Mapping[str, Any]) -> None:
    encoded = json.dumps(content, indent=2).encode() + b"\n"
    if note.local is not None:
        note.local.parent.mkdir(exist_ok=True)
    note.write_bytes(encoded)
