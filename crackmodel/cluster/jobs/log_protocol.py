"""Events, errors and results as lines of a job's log, and back.

    @ShardCommitted {"run_id": "20261125T020000Z-5f2c1a", "shard": 3, "images": 500, ...}
    @SurveyError {"problem": "There is no folder /mnt/bridge-07.", "remedy": "Check that it is mounted."}
    @result {"run_id": "20261125T020000Z-5f2c1a", "survey": "bridge-07", ...}

A job has one log for both of its streams, and Ray writes into it too, on request as bare JSON. Every other
line is for people.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, TextIO

from crackmodel import errors
from crackmodel.errors import CrackmodelError

RECORDS_VARIABLE: Final = "CRACKMODEL_RECORDS"
"""Set to 1 for a command whose output a program reads."""

_RESULT: Final = "result"
"""The tag of a command's result. No event has this name, because classes begin with a capital letter."""

_RECORD: Final = re.compile(r"@(\w+) (\{.*\})")


def recording() -> bool:
    """Check whether this process shall write records in place of sentences."""
    return os.environ.get(RECORDS_VARIABLE) == "1"


class Recorder:
    """A listener that writes every event as a record.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Any) -> None:
        """Write an event, a dataclass."""
        _write(type(event).__name__, asdict(event), self._stream)


def record_error(error: CrackmodelError, stream: TextIO) -> None:
    """Write the error that stopped a command as a record."""
    _write(type(error).__name__, {"problem": error.problem, "remedy": error.remedy}, stream)


def write_result(values: Mapping[str, Any], stream: TextIO) -> None:
    """Write a command's result as a record."""
    _write(_RESULT, values, stream)


def _write(kind: str, values: Mapping[str, Any], stream: TextIO) -> None:
    # In one piece: others write into the same file.
    stream.write(f"@{kind} {json.dumps(values, default=str)}\n")
    stream.flush()


def read_record(line: str, kinds: Mapping[str, type]) -> Any:
    """Read a line of a job's log.

    Args:
        line: Without its end.
        kinds: The dataclasses that may be in it, by name.

    Returns:
        An event, a `CrackmodelError`, or a command's result as a `dict`; None where the line is for people,
        or was written by a version of this package with other events.
    """
    found = _RECORD.fullmatch(line)
    values = found and _object(found[2])
    if not found or values is None:
        return None
    name = found[1]
    if name == _RESULT:
        return values
    if name in kinds:
        # Every command loads this module to report its errors; only following a job needs pydantic.
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(kinds[name]).validate_python(values)
        except ValidationError:
            return None
    cls = getattr(errors, name, None)
    if isinstance(cls, type) and issubclass(cls, CrackmodelError):
        return cls(str(values.get("problem", "")), str(values.get("remedy", "")))
    return None


def _object(text: str) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
