"""Which surveys there are to score tonight: a list that somebody wrote, or every folder below a root."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs
from pydantic import TypeAdapter, ValidationError

from crackmodel.errors import SurveyError, UsageError, printable
from crackmodel.settings import TilePixels
from crackmodel.surveys.listing import open_location, survey_name

ROSTER_FILE: Final = "surveys.toml"

_NO_SURVEYS: Final = frozenset(
    {
        "lost+found",
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "system volume information",
    }
)
"""What file systems and storage devices put into a folder by themselves, in lower case."""

_WRITTEN: Final = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})
"""How a folder's own name is written in a URI, where these characters mean something else."""

_KEYS: Final = {"uri": str, "name": str, "tile": int, "owner": str}


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One survey of a roster.

    Attributes:
        uri: Where its photographs are: absolute path, or `s3://`, `gs://` URI.
        name: Its name in the report.
        tile: Edge of a tile in pixels; None for the night's own.
        owner: Whom to tell; may be empty.
    """

    uri: str
    name: str
    tile: int | None = None
    owner: str = ""


def find_surveys(
    root: str | Path,
    *,
    apart: Sequence[str] = (),
    is_known: Callable[[str], bool] | None = None,
) -> tuple[RosterEntry, ...]:
    """Find the surveys below a root.

    `surveys.toml` in the root decides, if it is there: a `[[survey]]` for each, with `uri` (relative to the
    root, or absolute) and perhaps `name`, `tile` and `owner`. Otherwise every folder in the root is a survey,
    except those whose names begin with a dot or an underscore, what storage devices make by themselves, and
    Delta tables. What the root's URI says behind `?` holds for every survey below it that has no options of
    its own.

    Args:
        root: Folder, or `s3://`, `gs://` URI of one.
        apart: Folders or URIs that are no surveys though they may be in the root: the report, the models.
        is_known: Says of a survey's name whether there were images of it before. A local folder without any
            is then left out while it is empty; one that is known is not, for its share may not be mounted.

    Returns:
        The surveys, in the roster's order or by name.

    Raises:
        SurveyError: There is no such root, it cannot be read, or no survey is in it.
        UsageError: An address makes no sense, the roster is no TOML, or says something that makes no sense.
    """
    storage, folder = open_location(str(root))
    local = isinstance(storage, fs.LocalFileSystem)
    base = folder if local else _below(str(root), "")
    try:
        inside = storage.get_file_info(fs.FileSelector(folder))
        if any(entry.base_name == ROSTER_FILE for entry in inside):
            with storage.open_input_stream(f"{folder}/{ROSTER_FILE}") as stream:
                return _read_roster(stream.read(), base)
    except (OSError, pa.ArrowException) as error:
        raise SurveyError(
            f"{printable(str(root))} cannot be looked into ({' '.join(str(error).split())[:200]}).",
            "Give the folder that holds the surveys' folders, and check that it is mounted.",
        ) from None
    others = {_real(place) for place in apart if local == _is_local(place)}
    names = sorted(
        entry.base_name
        for entry in inside
        if entry.type == fs.FileType.Directory
        and not entry.base_name.startswith((".", "_"))
        and entry.base_name.lower() not in _NO_SURVEYS
        and entry.path[len(folder) :].strip("/")  # what // in a key makes pyarrow call a folder in itself
        and (os.path.realpath(entry.path) if local else entry.path) not in others
        and not _is_table(storage, entry.path)
    )
    places = [_below(base, name if local else name.translate(_WRITTEN)) for name in names]
    found = [RosterEntry(place, survey_name(place)) for place in places]
    if not local or is_known is None:
        return _checked(found, base)
    filled = [entry for entry in found if not _is_empty(entry.uri) or is_known(entry.name)]
    if found and not filled:
        raise SurveyError(
            f"All folders in {base} are empty.", "Put photographs there, or check that the disk is mounted."
        )
    return _checked(filled, base)


def _is_table(storage: fs.FileSystem, folder: str) -> bool:
    """Whether a folder is a Delta table: a report, or a copy of one."""
    try:
        return bool(storage.get_file_info(f"{folder}/_delta_log").type == fs.FileType.Directory)
    except OSError:
        return False  # whoever lists it as a survey says what is wrong


def _is_local(place: str) -> bool:
    return "://" not in place or place.startswith("file://")


def _real(place: str) -> str:
    """The path of a place in its storage, free of links."""
    path = open_location(place)[1]
    return os.path.realpath(path) if _is_local(place) else path


def _is_empty(folder: str) -> bool:
    """Whether a folder and those in it hold no file but hidden ones. What cannot be read may hold some."""
    try:
        with os.scandir(folder) as entries:
            return all(
                entry.name.startswith(".") or (entry.is_dir(follow_symlinks=False) and _is_empty(entry.path))
                for entry in entries
            )
    except OSError:
        return False


def _below(base: str, relative: str) -> str:
    """Name something below a folder; what stands behind an address's question mark holds there as well."""
    if "://" not in base:
        return f"{base}/{relative}"
    place, mark, options = base.partition("?")
    inside = f"{place.rstrip('/')}/{relative}".rstrip("/")
    return inside if "?" in relative else inside + mark + options


def _read_roster(content: bytes, base: str) -> tuple[RosterEntry, ...]:
    try:
        listed = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{_below(base, ROSTER_FILE)} is not TOML: {error}.", "Mend that line.") from error
    entries = listed.pop("survey", [])
    if listed or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(
            f"{_below(base, ROSTER_FILE)} holds something else than [[survey]] tables: {', '.join(listed)}.",
            'Write [[survey]] and below it uri = "FOLDER" for each survey.',
        )
    return _checked([_entry(entry, number, base) for number, entry in enumerate(entries, 1)], base)


def _entry(entry: dict[str, Any], number: int, base: str) -> RosterEntry:
    wrong = [key for key, value in entry.items() if type(value) is not _KEYS.get(key)]
    if wrong or not entry.get("uri"):
        raise UsageError(
            f"Survey {number} of {_below(base, ROSTER_FILE)} has {', '.join(wrong) or 'no uri'}"
            + (", which is unknown or of the wrong type." if wrong else "."),
            "It takes uri, name and owner as text, and tile as a whole number of pixels.",
        )
    try:
        TypeAdapter(TilePixels | None).validate_python(entry.get("tile"))
    except ValidationError as error:
        raise UsageError(
            f"tile = {entry['tile']} of survey {number} in {_below(base, ROSTER_FILE)} cannot be used: "
            f"{error.errors()[0]['msg']}.",
            "Correct it there.",
        ) from error
    uri = str(entry["uri"])
    if "://" not in uri and not uri.startswith(("/", "~")):
        inside = uri.removesuffix("/.")
        uri = base if inside == "." else _below(base, inside)
    return RosterEntry(uri, entry.get("name") or survey_name(uri), entry.get("tile"), entry.get("owner", ""))


def _checked(entries: list[RosterEntry], base: str) -> tuple[RosterEntry, ...]:
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"Two surveys below {base} have the same name: {', '.join(twice)}.",
            f"Give each a name of its own in {_below(base, ROSTER_FILE)}.",
        )
    if not entries:
        raise SurveyError(
            f"There is no survey in {base}.",
            f"Give the folder that holds the surveys' folders, or list them in {ROSTER_FILE} there.",
        )
    return tuple(entries)
