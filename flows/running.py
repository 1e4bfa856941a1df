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

from crackmodel.cli.exits import reported
from flows.plain_errors import say_errors_plainly

T = TypeVar("T")

say_errors_plainly()  # also in a worker's process, which loads the flows and calls nothing here


def run_embedded(flow: Callable[[], T], check: Callable[[], object] = lambda: None) -> T:
    """Call a flow; without `PREFECT_API_URL` Prefect starts its own server on loopback while it runs.

    What stops it is said on stderr and becomes the exit code: see `crackmodel.cli.exits`. The embedded server
    sends no telemetry, and gets time to start on a busy machine.

    Args:
        flow: Calls it.
        check: Called before any server is started; raises what would stop the flow at once.
    """
    embedded = temporary_settings(
        {
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    )
    with reported():
        check()
        with embedded:
            return flow()
