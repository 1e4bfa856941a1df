"""Run a flow from the command line, on the configured Prefect server or on an embedded one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from prefect.settings import (
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from crackmodel.errors import CrackmodelError

T = TypeVar("T")


def run_embedded(flow: Callable[[], T]) -> T:
    """Call a flow; without `PREFECT_API_URL` Prefect starts its own server on loopback while it runs.

    A `CrackmodelError` becomes two lines on stderr and its exit code. The embedded server sends no
    telemetry, and gets time to start on a busy machine.
    """
    with temporary_settings(
        {
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    ):
        try:
            return flow()
        except CrackmodelError as error:
            print(f"error: {error.problem}\n       {error.remedy}", file=sys.stderr)
            sys.exit(error.exit_code)
