"""The lock of a survey in a local report.

An advisory lock on a file inside the report. The operating system releases it when the process ends, however
that ends. Object stores have no locks: see `crackmodel.reports.writing.fencing`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from crackmodel.errors import ReportBusy
from crackmodel.reports.report_location import writing
from crackmodel.reports.schema import check_name
from crackmodel.storage.files import lock

LOCK_FOLDER: Final = "_locks"
"""Inside the report; the underscore keeps Parquet readers and Delta's vacuum away from it."""


@contextmanager
def hold_survey(report: Path, survey: str, run_id: str = "") -> Iterator[None]:
    """Hold the lock of a survey in a local report.

    The lock file stays when the lock is released: removing it would let two runs lock two files of one name.
    The run's name is for the message to others.

    Raises:
        ReportBusy: Another process holds it; the message says which, on which machine and since when.
        ReportWriteFailed: The lock file cannot be made.
    """
    path = report / LOCK_FOLDER / f"{check_name(survey)}.lock"
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "run": run_id,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with writing(str(path)):
        path.parent.mkdir(exist_ok=True)
        try:
            file = lock(path, wait=False)
        except BlockingIOError as error:
            raise ReportBusy(
                f"Survey {survey!r} is being scored into this report by another run{_holder(path)}.",
                "Wait until it ends, or stop that process, and run again.",
            ) from error
    with file:
        with writing(str(path)):
            file.truncate(0)
            file.write(json.dumps(holder).encode())
            file.flush()
        yield


def _holder(path: Path) -> str:
    """Describe the lock's holder; empty until it has written its note."""
    try:
        note = json.loads(path.read_text())
        run = f"run {note['run']}, " if note["run"] else ""
        return f" ({run}process {note['pid']} on {note['host']}, since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
