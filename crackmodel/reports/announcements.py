"""Of which runs a night has told, so that the next one tells what an interrupted one found.

A note for every survey, `_surveys/<survey>.told` inside the report, beside what `claims` notes: the runs, and
how many rows each had when it was told of. A run that has more by now was not over then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from crackmodel.reports.schema import check_name
from crackmodel.reports.survey_notes import SURVEY_FOLDER, write_note
from crackmodel.storage.location import Place, write_failed


def read_told(place: Place, survey: str) -> dict[str, int] | None:
    """Read the note; None where there is none, or a damaged one. See `ReportTable.told`."""
    note = _note(survey)
    try:
        if not place.exists(note):
            return None
        with place.filesystem.open_input_stream(place.inside(note)) as stream:
            content = stream.read()
    except OSError as error:
        raise write_failed(error, place.inside(note)) from error
    try:
        return {str(run): int(rows) for run, rows in json.loads(content)["told"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def add_told(place: Place, survey: str, runs: Mapping[str, int]) -> None:
    """Add runs to the note; see `ReportTable.remember_told`."""
    note = _note(survey)
    known = read_told(place, survey) or {}
    told = known | {run: max(rows, known.get(run, 0)) for run, rows in runs.items()}
    try:
        write_note(place, note, {"survey": survey, "told": told})
    except OSError as error:
        raise write_failed(error, place.inside(note)) from error


def _note(survey: str) -> str:
    return f"{SURVEY_FOLDER}/{check_name(survey)}.told"
