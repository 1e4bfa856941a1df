"""How a command prints its result: for people, for scripts, for whoever follows a job."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import typer


def print_result(values: dict[str, Any], as_json: bool, for_people: Callable[[], None]) -> None:
    """Give scripts one JSON object, whoever follows a job a record, and people sentences."""
    from crackmodel.cluster.jobs.log_protocol import recording, write_result

    if as_json and recording():
        write_result(values, sys.stdout)
    elif as_json:
        typer.echo(json.dumps(values, default=str, allow_nan=False))
    else:
        for_people()
