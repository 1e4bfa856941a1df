"""List the files of a survey, on disk or in an object store, unopened."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import compute, fs

from crackmodel.errors import SurveyError, UsageError
from crackmodel.storage.advice import raised_as
from crackmodel.storage.location import Location
from crackmodel.text import printable

LISTING_SCHEMA: Final = pa.schema(
    [
        pa.field("image", pa.large_string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("modified_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""A row per file: its POSIX path within the survey, its size and when it was last modified.

A column of plain strings ends at 2 GiB: eleven million paths of 190 characters.
"""

_CHUNK: Final = 65_536
"""Files held as Python objects before they become Arrow arrays: a million paths would take 100 MB."""
_EARLIEST_US: Final = -62_135_596_800_000_000
_LATEST_US: Final = 253_402_300_799_999_999
"""Year 1 to the end of year 9999 in microseconds: what a `datetime` holds. Damaged disks give any."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NAME: Final = re.compile(r"[A-Za-z0-9-][A-Za-z0-9._-]{0,99}")
"""A survey's name; the same rule as `crackmodel.reports.schema.check_name`."""
_LONGEST_STEM: Final = 93
"""What a name of 100 characters has room for beside the six of a hash and a hyphen."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A named tree of photographs; make one with `parse`.

    Attributes:
        name: The report's partition, made of letters, digits, `.`, `_` and `-`.
        location: Where the photographs are.
    """

    name: str
    location: Location

    @classmethod
    def parse(cls, place: str | Path | Location | Survey, name: str | None = None) -> Survey:
        """Name the survey that lies somewhere; touches neither the disk nor the network.

        Args:
            place: What `Location.parse` takes.
            name: At most 100 letters, digits, `.`, `_` and `-`, not starting with `.` or `_`, since readers
                of a report's folder ignore such names. By default the last part of the path; where that is
                not such a name, the nearest one that is, `-`, and six digits of the part's SHA-256, so that
                `Brücke` and `Bröcke` stay two surveys.

        Raises:
            UsageError: The address is malformed, or the name cannot be a partition's.
        """
        if isinstance(place, Survey):
            return place if name is None else replace(place, name=_checked_name(name))
        location = Location.parse(place)
        return Survey(_default_name(location.name) if name is None else _checked_name(name), location)

    @property
    def uri(self) -> str:
        """Absolute local path, or URI in an object store."""
        return self.location.uri

    def open(self) -> tuple[fs.FileSystem, str]:
        """Return the file system that holds the photographs, and their folder in it.

        Raises:
            SurveyError: The object store cannot be reached.
        """
        with raised_as(SurveyError, f"{self.uri} cannot be listed"):
            return self.location.filesystem, self.location.root


@dataclass(frozen=True, slots=True)
class Listing:
    """What a survey holds at one moment.

    Attributes:
        survey: The survey.
        files: Table of `LISTING_SCHEMA`, sorted by `image`.
        hidden: Files ignored because their name, or that of a folder on the way, starts with a dot.
        outside: Symbolic links ignored because they lead out of the tree, or nowhere.
        misnamed: Files ignored because their path is not UTF-8, so that no report could name them.
        nameless: Folders of an object store ignored because their name is empty, as in the key `deck//a.jpg`.
    """

    survey: Survey
    files: pa.Table
    hidden: int
    outside: int
    misnamed: int = 0
    nameless: int = 0


def list_survey(survey: Survey, apart: Iterable[Location] = ()) -> Listing:
    """List every file of a survey.

    Files and folders whose names start with a dot are ignored and counted. Links to files within the tree
    are listed; links to folders within it are not followed, their files are listed already; links that lead
    out of the tree are ignored and counted. So are folders of an object store whose name is empty. Folders
    `apart`, such as the report and the models, are no part of the survey, so a link into one leads out of it.

    Raises:
        SurveyError: There is no such folder, it is a file, it is empty, or part of it cannot be read.
    """
    storage, root = survey.open()
    found = _Found(apart=folders_apart(survey.location, apart))
    if survey.location.local is not None:
        _require_folder(survey.location.local)
        _walk_local(os.path.realpath(root), found)
    else:
        _walk_store(storage, root, survey.uri, found)
    files = found.table()
    if not files.num_rows:
        raise SurveyError(f"There are no files to score in {survey.uri}.", _remedy_for_empty(found))
    return Listing(survey, files, found.hidden, found.outside, found.misnamed, found.nameless)


def folders_apart(root: Location, apart: Iterable[Location]) -> frozenset[str]:
    """Return the real paths of those folders that lie below a root."""
    inside = root.real_path.rstrip("/") + "/"
    same = {root.scheme, *({"abfs", "abfss"} if root.scheme.startswith("abfs") else ())}
    paths = (each.real_path for each in apart if each.scheme in same)
    return frozenset(path for path in paths if path.startswith(inside))


@dataclass(slots=True)
class _Found:
    """The files found so far, as Arrow arrays but for the last few."""

    apart: frozenset[str] = frozenset()
    left_out: int = 0
    hidden: int = 0
    outside: int = 0
    misnamed: int = 0
    nameless: int = 0
    images: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    chunks: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, image: str, size: int, modified_ns: int) -> None:
        if not image.isascii() and image.encode(errors="replace").decode() != image:  # undecodable bytes
            self.misnamed += 1
            return
        self.images.append(image)
        self.sizes.append(size)
        # Microseconds, rounded down: what the report can hold, and so what can be compared with it.
        self.times.append(min(max(modified_ns // 1000, _EARLIEST_US), _LATEST_US))
        if len(self.images) >= _CHUNK:
            self._pack()

    def is_part(self, folder: str) -> bool:
        if folder not in self.apart:
            return True
        self.left_out += 1
        return False

    def table(self) -> pa.Table:
        self._pack()
        table = pa.Table.from_batches(self.chunks, LISTING_SCHEMA)
        self.chunks = []  # the unsorted table goes as soon as the sorted one is there
        table = table.take(compute.sort_indices(table["image"]))
        table = table.combine_chunks()
        pa.default_memory_pool().release_unused()
        return table

    def _pack(self) -> None:
        columns = [
            pa.array(self.images, LISTING_SCHEMA.field("image").type),
            pa.array(self.sizes, pa.int64()),
            pa.array(self.times, pa.int64()).cast(LISTING_SCHEMA.field("modified_at").type),
        ]
        self.chunks.append(pa.RecordBatch.from_arrays(columns, schema=LISTING_SCHEMA))
        self.images, self.sizes, self.times = [], array("q"), array("q")


def _walk_local(root: str, found: _Found) -> None:
    """Walk a local tree; `root` must be free of links."""
    folders = [("", False)]
    while folders:
        folder, hidden = folders.pop()
        for entry in _entries(root, folder, hidden):
            below_hidden = hidden or entry.name.startswith(".")
            image = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if found.is_part(entry.path):
                    folders.append((image, below_hidden))
            elif below_hidden:
                found.hidden += 1
            elif entry.is_symlink():
                _add_link(root, image, entry, found)
            elif entry.is_file(follow_symlinks=False):
                _add_file(image, entry, found)


def _entries(root: str, folder: str, hidden: bool) -> Iterator[os.DirEntry[str]]:
    path = f"{root}/{folder}" if folder else root
    try:
        with os.scandir(path) as entries:
            yield from entries
    except FileNotFoundError:
        return  # deleted since its parent was read: its files are gone, as if a moment later
    except OSError as error:
        if hidden:
            return  # nothing in there would be scored
        raise _unreadable(path, error) from error


def _add_file(image: str, entry: os.DirEntry[str], found: _Found) -> None:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return  # deleted while we look
    except OSError as error:
        raise _unreadable(entry.path.rpartition("/")[0], error) from error
    found.add(image, status.st_size, status.st_mtime_ns)


def _add_link(root: str, image: str, entry: os.DirEntry[str], found: _Found) -> None:
    target = Path(os.path.realpath(entry.path))
    within = target.is_relative_to(root) and not any(target.is_relative_to(each) for each in found.apart)
    try:
        is_file, is_folder = within and target.is_file(), within and target.is_dir()
    except OSError as error:  # it lies in a folder that may not be entered
        raise _unreadable(str(target.parent), error) from error
    if is_file:
        _add_file(image, entry, found)
    elif not is_folder:
        found.outside += 1


def _walk_store(storage: fs.FileSystem, root: str, uri: str, found: _Found) -> None:
    """Walk an object store by folder: a recursive listing would hold every entry."""
    with raised_as(SurveyError, f"{uri} cannot be listed"):
        kind = storage.get_file_info(root).type
        if kind == fs.FileType.NotFound:
            raise SurveyError(f"There is no {uri}.", "Check the bucket's name and the folder's spelling.")
        if kind == fs.FileType.File:
            raise _is_a_file(uri)
        folders = [(root, False)]
        while folders:
            folder, hidden = folders.pop()
            for info in storage.get_file_info(fs.FileSelector(folder)):
                below_hidden = hidden or info.base_name.startswith(".")
                if not info.path[len(folder) :].strip("/"):
                    # pyarrow calls the folder "" of a key with // by its parent's name, and cannot enter it.
                    found.nameless += not hidden
                elif info.type == fs.FileType.Directory:
                    if found.is_part(info.path):
                        folders.append((info.path, below_hidden))
                elif below_hidden:
                    found.hidden += 1
                elif info.type == fs.FileType.File:
                    found.add(info.path[len(root) + 1 :], info.size or 0, info.mtime_ns or 0)


def _require_folder(root: Path) -> None:
    remedy = "Check its path, and that the scoring user may enter every folder above it."
    with raised_as(SurveyError, f"The folder {printable(str(root))} cannot be read", remedy):
        is_file, is_folder = root.is_file(), root.is_dir()
    if is_file:
        raise _is_a_file(str(root))
    if not is_folder:
        raise SurveyError(
            f"There is no folder {root}.", "Check the spelling, and that the disk or share is mounted here."
        )


def _default_name(last: str) -> str:
    if not last:
        return "survey"
    if _NAME.fullmatch(last):
        return last
    stem = _UNSAFE.sub("-", last).strip("-._")[:_LONGEST_STEM] or "survey"
    return f"{stem}-{hashlib.sha256(last.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{printable(repr(name))} cannot name a survey.",
            "Use at most 100 letters, digits, '.', '_' and '-', beginning with a letter, a digit or '-'.",
        )
    return name


def _is_a_file(uri: str) -> SurveyError:
    return SurveyError(f"{uri} is a file, not a folder of photographs.", "Give the folder that it lies in.")


def _unreadable(folder: str, error: OSError) -> SurveyError:
    return SurveyError(
        f"The folder {printable(folder)} cannot be read ({error.strerror}).",
        "Give the scoring user read and execute permission on it, or move it out of the survey.",
    )


def _remedy_for_empty(found: _Found) -> str:
    ignored = {
        "folders that hold the report or the models": found.left_out,
        "hidden": found.hidden,
        "links out of the folder": found.outside,
        "named in another encoding than UTF-8": found.misnamed,
        "folders without a name (// in their keys)": found.nameless,
    }
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in ignored.items() if count)
    if reasons:
        return f"All that is there was ignored: {reasons}. Move or copy the photographs themselves into it."
    return "Copy the photographs there, or check the path."
