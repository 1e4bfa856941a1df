"""Where a report lies: a local folder or an object store, through one pyarrow file system."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import fs

from crackmodel.errors import ReportError, ReportWriteFailed, UsageError, printable
from crackmodel.storage.object_stores import advice, open_store

_MISREAD: Final = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f]")
"""deltalake decodes a path twice and so would look for the log of `a%20b` in `a b`, perhaps another report;
a backslash becomes a slash there, and what controls a terminal is refused."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Place:
    """The root folder of a report.

    Attributes:
        uri: Absolute local path, or the object store's URI without a trailing slash.
        filesystem: The pyarrow file system that `root` belongs to.
        root: The report's folder inside `filesystem`.
        local: The folder as a path of this machine; None in an object store.
        delta_uri: What Delta Lake opens.
        delta_options: What Delta Lake has to be told to get there.
    """

    uri: str
    filesystem: fs.FileSystem
    root: str
    local: Path | None
    delta_uri: str = ""
    delta_options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.delta_uri:
            object.__setattr__(self, "delta_uri", self.uri)

    def inside(self, relative: str) -> str:
        """The path of something inside the report, for `filesystem`."""
        return f"{self.root}/{relative}"

    def exists(self, relative: str) -> bool:
        """Whether a file or folder of that path is in the report."""
        return bool(self.filesystem.get_file_info(self.inside(relative)).type != fs.FileType.NotFound)


def open_place(uri: str | Path) -> Place:
    """Resolve a report's address; touches nothing.

    Args:
        uri: A local path (`~` is expanded), a `file://` URI, or what `object_stores.open_store` takes.

    Raises:
        UsageError: The scheme is unknown, the URI is malformed, or deltalake would take the path for another.
        ReportError: The object store cannot be reached.
    """
    text = str(uri)
    if "://" not in text:
        return _local_place(Path(text))
    if text.startswith("file://"):
        try:
            return _local_place(Path(fs.FileSystem.from_uri(text)[1]))
        except pa.ArrowInvalid as error:
            raise UsageError(
                f"The report's address {text!r} cannot be understood: {error}.", "Give a local path."
            ) from error
    try:
        store = open_store(text)
    except OSError as error:
        raise ReportError(
            f"The storage of {text} cannot be reached: {first_line(error)}.",
            remedy(error, "Check the bucket's name, the network and the credentials: see docs/storage.md."),
        ) from error
    _require_plain(store.path)
    return Place(text.rstrip("/"), store.filesystem, store.path, None, store.delta_uri, store.delta_options)


def _local_place(path: Path) -> Place:
    folder = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 - pathlib's refuses the home of nobody known
    _require_plain(os.path.realpath(folder))  # where deltalake goes
    return Place(str(folder), fs.LocalFileSystem(), folder.as_posix(), folder)


def _require_plain(path: str) -> None:
    if odd := _MISREAD.search(path):
        raise UsageError(
            f"No report can lie in {printable(path)}: Delta Lake misreads {printable(repr(odd[0]))} in it.",
            "Choose a folder without it in its path with --report, or rename that one.",
        )


def write_failed(error: Exception, path: str) -> ReportWriteFailed:
    """Turn a storage error into one that says what to do, by what the storage complained of.

    Args:
        error: What pyarrow, the operating system or Delta Lake raised.
        path: What was being written.
    """
    code = getattr(error, "errno", None)
    text = str(error)
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota exceeded" in text:
        return ReportWriteFailed(
            f"The disk is full: {path} could not be written.",
            "Free some space and run again; shards that were committed stay and are not scored twice.",
        )
    if code == errno.EFBIG or "File too large" in text:
        return ReportWriteFailed(
            f"{path} grew beyond the largest file that is allowed here.",
            "Raise the limit (ulimit -f) and run again; shards that were committed stay.",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS) or ("denied" in text.lower() and not advice(error)):
        return ReportWriteFailed(
            f"There is no permission to write {path}.",
            "Give this user write access to the report, or choose another place with --report.",
        )
    return ReportWriteFailed(
        f"{path} could not be written: {first_line(error)}.",
        remedy(
            error,
            "Check the storage and run again; shards that were committed stay and are not scored twice.",
        ),
    )


def first_line(error: Exception) -> str:
    """What is wrong, on one line without a full stop.

    deltalake draws a tree from the outermost layer to the innermost, and may print the store's answer
    below it; the innermost says most, and the answer is for nobody's log.
    """
    if known := advice(error):
        return known[0]
    lines = [_COLOURS.sub("", line).strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    told = [line.lstrip("↳ ") for line in lines if line.startswith("↳") and "<" not in line]
    return (told[-1] if told else lines[0]).rstrip(". ")


def remedy(error: Exception, otherwise: str) -> str:
    """What to do about a failure: what a store's complaint asks for, if it is one."""
    known = advice(error)
    return known[1] if known else otherwise
