"""Run a flow from the command line, on the configured Prefect server or on an embedded one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prefect.settings import (
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows.plain_errors import say_errors_plainly

T = TypeVar("T")

say_errors_plainly()  # also in a worker's process, which loads the flows and calls nothing here


def run_embedded(flow: Callable[[], T]) -> T:
    """Call a flow; without `PREFECT_API_URL` Prefect starts its own server on loopback while it runs.

    The embedded server sends no telemetry, and gets time to start on a busy machine.

    Args:
        flow: Calls it.
    """
    embedded = temporary_settings(
        {
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    )
    with embedded:
        return flow()
