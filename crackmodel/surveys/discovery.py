"""The surveys below a root: those of surveys.toml, else every folder."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyarrow import fs
from pydantic import BaseModel, Field, ValidationError

from crackmodel.errors import SurveyError, UsageError
from crackmodel.settings import TilePixels
from crackmodel.storage.advice import first_line, remedy
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import Survey, folders_apart
from crackmodel.text import printable

ROSTER_FILE: Final = "surveys.toml"

_NO_SURVEYS: Final = frozenset(
    {"lost+found", "@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "system volume information"}
)
"""What file systems and storage devices put into a folder by themselves, in lower case."""


@dataclass(frozen=True, slots=True)
class RosterEntry(Survey):
    """A survey of a roster.

    Attributes:
        tile: Edge of a tile in pixels; None for the night's own.
        owner: Who is responsible; may be empty.
    """

    tile: int | None = None
    owner: str = ""


class _Listed(BaseModel, extra="forbid", strict=True):
    """A `[[survey]]` of the roster."""

    uri: str = Field(min_length=1)
    name: str = ""
    tile: TilePixels | None = None
    owner: str = ""


class _Roster(BaseModel, extra="forbid", strict=True):
    survey: list[_Listed] = []


def find_surveys(
    root: Location,
    *,
    apart: Iterable[Location] = (),
    is_known: Callable[[str], bool] | None = None,
) -> tuple[RosterEntry, ...]:
    """Find the surveys below a root.

    `surveys.toml` in the root decides, if it is there: a `[[survey]]` for each, with `uri` (relative to the
    root, or absolute) and perhaps `name`, `tile` and `owner`. Otherwise every folder in the root is a survey,
    except those whose names begin with a dot or an underscore, what storage devices make by themselves, and
    Delta tables. What the root's URI says behind `?` holds for every survey below it that has no options of
    its own.

    Args:
        root: Folder that holds the surveys' folders.
        apart: Folders that are no surveys though they may be in the root: the report, the models.
        is_known: Whether the report knows a survey's name. If given, an empty local folder is left out
            unless it is known: its share may not be mounted.

    Returns:
        The surveys, in the roster's order or by name.

    Raises:
        SurveyError: There is no such root, it cannot be read, or no survey is in it.
        UsageError: The roster is not TOML, or says something that makes no sense.
    """
    roster = root / ROSTER_FILE
    try:
        storage, folder = root.filesystem, root.root
        inside = storage.get_file_info(fs.FileSelector(folder))
        if any(entry.base_name == ROSTER_FILE for entry in inside):
            return _checked(_read_roster(roster, root), root)
    except (OSError, pa.ArrowException) as error:
        raise SurveyError(
            f"The folder {printable(root.uri)} cannot be read: {first_line(error)}.",
            remedy(error, "Give the folder that holds the surveys' folders, and check that it is mounted."),
        ) from error
    others = folders_apart(root, apart)
    found = [
        RosterEntry(survey.name, survey.location)
        for entry in sorted(inside, key=lambda entry: str(entry.base_name))
        if entry.type == fs.FileType.Directory
        and not entry.base_name.startswith((".", "_"))
        and entry.base_name.lower() not in _NO_SURVEYS
        and entry.path[len(folder) :].strip("/")  # what // in a key makes pyarrow call a folder in itself
        and (survey := Survey.parse(root / entry.base_name)).location.real_path not in others
        and not _is_table(survey.location)
    ]
    if root.local is None or is_known is None:
        return _checked(found, root)
    filled = [entry for entry in found if not _is_empty(entry.uri) or is_known(entry.name)]
    if found and not filled:
        raise SurveyError(
            f"All folders in {root} are empty.", "Put photographs there, or check that the disk is mounted."
        )
    return _checked(filled, root)


def _is_table(folder: Location) -> bool:
    """Whether a folder is a Delta table: a report, or a copy of one."""
    try:
        return (folder / "_delta_log").is_dir()
    except OSError:
        return False  # scoring it as a survey will say what is wrong


def _is_empty(folder: str) -> bool:
    """Whether a folder tree holds only hidden files; False if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return all(
                entry.name.startswith(".") or (entry.is_dir(follow_symlinks=False) and _is_empty(entry.path))
                for entry in entries
            )
    except OSError:
        return False


def _read_roster(file: Location, root: Location) -> list[RosterEntry]:
    content = file.read_bytes()
    try:
        listed = _Roster.model_validate(tomllib.loads(content.decode())).survey
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not TOML: {error}.", "Correct that line.") from error
    except ValidationError as error:
        wrong = []
        for found in error.errors():
            where = [f"survey {part + 1}" if isinstance(part, int) else str(part) for part in found["loc"]]
            wrong.append(f"{' of '.join(where[:0:-1]) or where[0]} ({found['msg']})")
        raise UsageError(
            f"{file} cannot be used: {', '.join(wrong[:3])}.",
            'Write [[survey]] and below it uri = "FOLDER" for each survey; it may also have name and owner, '
            "as text, and tile, a whole number of pixels.",
        ) from error
    entries = []
    for entry in listed:
        survey = Survey.parse(root.resolve(entry.uri), entry.name or None)
        entries.append(RosterEntry(survey.name, survey.location, entry.tile, entry.owner))
    return entries


def _checked(entries: list[RosterEntry], root: Location) -> tuple[RosterEntry, ...]:
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"Two surveys below {root} have the same name: {', '.join(twice)}.",
            f"Give each a name of its own in {root / ROSTER_FILE}.",
        )
    if not entries:
        raise SurveyError(
            f"There is no survey in {root}.",
            f"Give the folder that holds the surveys' folders, or list them in {ROSTER_FILE} there.",
        )
    return tuple(entries)
