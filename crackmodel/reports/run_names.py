"""Names of runs, which sort in the order in which the runs began.

A name is `20261123T063950Z-b4b2c7`. Where a survey has several rows of an image, that of the last run
counts. Clocks cannot decide it: a machine whose clock lies behind would write rows that never count, one
from the future rows that count for ever.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

RUN_NAME: Final = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}"

_TIME: Final = "%Y%m%dT%H%M%SZ"


def name_run(newest: str | None, now: datetime | None = None) -> str:
    """Name a run that begins now so that it sorts behind the survey's newest run, if there is one."""
    began = now or datetime.now(UTC)
    if newest is not None:
        began = max(began, run_time(newest) + timedelta(seconds=1))
    return f"{began.strftime(_TIME)}-{uuid.uuid4().hex[:6]}"


def can_be_followed(name: str) -> bool:
    """Whether `name_run` gave the name, and can give one that sorts behind it."""
    try:
        run_time(name) + timedelta(seconds=1)
    except (ValueError, OverflowError):
        return False
    return True


def run_time(name: str) -> datetime:
    """Return the time in a run's name.

    Raises:
        ValueError: The name is not one that `name_run` gives.
    """
    if not re.fullmatch(RUN_NAME, name, re.ASCII):
        raise ValueError(f"{name!r} is not the name of a run")
    return datetime.strptime(name.split("-", maxsplit=1)[0], _TIME).replace(tzinfo=UTC)
