"""Where a report may lie, and what it means when it cannot be written there."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crackmodel.errors import ReportError, ReportWriteFailed, UsageError
from crackmodel.storage.advice import advice, first_line, raised_as, remedy
from crackmodel.storage.location import Location
from crackmodel.text import printable

_MISREAD: Final = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f]")
"""deltalake decodes a path twice and so would look for the log of `a%20b` in `a b`, perhaps another report;
a backslash becomes a slash there, and what controls a terminal is refused."""


def locate_report(uri: str | Path | Location) -> Location:
    """Parse a report's path or URI, and find its store.

    Raises:
        UsageError: The address makes no sense, or deltalake would take the path for another.
        ReportError: The object store cannot be reached.
    """
    report = Location.parse(uri)
    with raised_as(ReportError, f"The storage of {report} cannot be reached"):
        path = report.root if report.local is None else os.path.realpath(report.local)  # where deltalake goes
    if odd := _MISREAD.search(path):
        raise UsageError(
            f"No report can lie in {printable(path)}: Delta Lake misreads {printable(repr(odd[0]))} in it.",
            "Choose a folder without it in its path with --report, or rename that one.",
        )
    return report


@contextmanager
def writing(what: str, *also: type[Exception]) -> Iterator[None]:
    """Turn an OSError, and the other kinds, into a ReportWriteFailed that names what was being written.

    Raises:
        ReportWriteFailed: See `write_failed`.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except kinds as error:
        raise write_failed(error, what) from error


def write_failed(error: Exception, path: str) -> ReportWriteFailed:
    """Turn a storage error of writing a path into one that says what to do."""
    code, text = getattr(error, "errno", None), str(error)
    kept = "shards that were committed stay and are not scored twice."
    problem = f"{path} could not be written: {first_line(error)}."
    advised = f"Check the storage and run again; {kept}"
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota exceeded" in text:
        problem = f"The disk is full: {path} could not be written."
        advised = f"Free some space and run again; {kept}"
    elif code == errno.EFBIG or "File too large" in text:
        problem = f"{path} grew beyond the largest file that is allowed here."
        advised = f"Raise the limit (ulimit -f) and run again; {kept}"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS) or ("denied" in text.lower() and not advice(error)):
        problem = f"There is no permission to write {path}."
        advised = "Give this user write access to the report, or choose another place with --report."
    return ReportWriteFailed(problem, remedy(error, advised))
