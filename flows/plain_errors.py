"""Prefect logs what went wrong in crackmodel's words, without tracebacks of what is no fault of code."""

from __future__ import annotations

import logging
from typing import Final

from crackmodel.errors import CrackmodelError

_LOGGERS: Final = ("prefect.flow_runs", "prefect.task_runs")
"""Where Prefect writes the traceback of whatever a flow or a task raises, once for each."""


class _Plainly(logging.Filter):
    """Replaces the traceback of an expected error by its message: what was wrong, and what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, CrackmodelError):
            record.msg, record.args = "%s", (error,)
            record.exc_info = record.exc_text = None
        return True


def say_errors_plainly() -> None:
    """Leave the tracebacks of crackmodel's own errors out of what flow and task runs log, in this process."""
    for name in _LOGGERS:
        log = logging.getLogger(name)
        if not any(isinstance(known, _Plainly) for known in log.filters):
            log.addFilter(_Plainly())
