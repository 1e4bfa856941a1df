"""Which photographs a survey's name stands for: two folders called `photos` must not become one survey.

A note for every survey, `_surveys/<survey>.json` inside the report; the underscore keeps Parquet readers and
Delta's vacuum away from it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from crackmodel.errors import ReportIncompatible, printable
from crackmodel.reports.schema import check_name, partition_folder
from crackmodel.storage.location import Place, open_place, write_failed

SURVEY_FOLDER: Final = "_surveys"
"""Inside the report, beside the survey's rows."""


def claim_survey(place: Place, survey: str, uri: str) -> None:
    """Note which place a survey's name stands for, or check it; see `ReportTable.claim`."""
    note = f"{SURVEY_FOLDER}/{check_name(survey)}.json"
    source = _without_access(uri)
    try:
        known = _read(place, note)
        if known is None:
            write_note(place, note, {"survey": survey, "uri": source})
    except OSError as error:
        raise write_failed(error, place.inside(note)) from error
    if known is not None and _read_as(known) != _read_as(source):
        raise ReportIncompatible(
            f"The report {place.uri} holds survey {survey!r} from {printable(str(known))}, "
            f"not {printable(source)}.",
            "Give this survey a name of its own with --name, or use another report; "
            f"if the survey has moved, delete {place.inside(note)}.",
        )


def knows_survey(report: str, survey: str) -> bool:
    """Whether a report has rows of a survey, or had some; not even a report has to be there.

    Raises:
        UsageError: The report's address or the survey's name makes no sense.
        ReportError: The storage cannot be reached.
    """
    place = open_place(report)
    rows, note = partition_folder(survey), f"{SURVEY_FOLDER}/{survey}.json"
    return place.exists(rows) or place.exists(note)


def _without_access(uri: str) -> str:
    """Leave out what says how to get there and not where: keys, which nobody shall read here, and options."""
    if "://" not in uri:
        return uri.rstrip("/") or "/"
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _read_as(source: str) -> str:
    """Make one of the ways to write a place: `%20` in a URI is a space, in a local path it is not."""
    return unquote(source) if "://" in source else source


def _read(place: Place, note: str) -> str | None:
    """Read which place is noted; None where no note is, or one that was damaged and so binds nobody."""
    if not place.exists(note):
        return None
    with place.filesystem.open_input_stream(place.inside(note)) as stream:
        content = stream.read()
    try:
        uri = json.loads(content)["uri"]
    except (ValueError, KeyError, TypeError):
        return None
    return uri if isinstance(uri, str) else None


def write_note(place: Place, note: str, content: Mapping[str, Any]) -> None:
    """Write a note, all of it or nothing; an object store shows an object when its stream is closed."""
    final = place.inside(note)
    target = final if place.local is None else f"{final}.{uuid.uuid4().hex[:8]}.tmp"
    if place.local is not None:
        place.filesystem.create_dir(place.inside(SURVEY_FOLDER), recursive=False)
    with place.filesystem.open_output_stream(target) as stream:
        stream.write(json.dumps(content, indent=2).encode() + b"\n")
    if target != final:
        place.filesystem.move(target, final)
