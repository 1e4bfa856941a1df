"""A Prefect server that starts runs when they are due: the configured one, or one of this process's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from crackmodel.errors import SchedulerError
from crackmodel.storage.files import lock

_HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 30.0

_LOCK: Final = "flows-serve.lock"

_ENVIRONMENT: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # By default the server keeps the holders of a concurrency limit in memory and their number in the
    # database. After a restart during a run the place is never given back, and with CANCEL_NEW no run ever
    # starts again: https://github.com/PrefectHQ/prefect/pull/20090
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


@contextmanager
def scheduling_server() -> Iterator[subprocess.Popen[bytes] | None]:
    """Provide a Prefect server that schedules, while the block lasts.

    `PREFECT_API_URL` names one, or else `prefect server` runs on this machine, on loopback and Prefect's own
    port, with its database in `PREFECT_HOME`. The server that Prefect embeds in a flow does not schedule.

    Yields:
        The server, if it is this process's own.

    Raises:
        SchedulerError: Nothing answers at the address, no server can be started, or another process has one
            with the same database.
    """
    url = get_current_settings().api.url
    if url:
        if not _is_healthy(url):
            raise SchedulerError(
                f"No Prefect server answers at {url}.",
                "Start it, or correct PREFECT_API_URL; without it, this command runs a server of its own.",
            )
        yield None
        return
    with _held(get_current_settings().home), _own_server() as server:
        yield server


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """Lock Prefect's home, and with it the database, against another flows.serve."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        held = lock(home / _LOCK, wait=False)
    except BlockingIOError as error:
        raise SchedulerError(
            f"Another flows.serve runs a server with its database in {home}.",
            "To use that server, set PREFECT_API_URL to its address, and another --name; "
            "to have another, set PREFECT_HOME to another folder, and PREFECT_SERVER_API_PORT.",
        ) from error
    with held:
        yield


@contextmanager
def _own_server() -> Iterator[subprocess.Popen[bytes]]:
    port = get_current_settings().server.api.port
    _require_free(port)
    environment = _ENVIRONMENT | dict(os.environ)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    # In a session of its own Ctrl-C does not reach it: runs still report to it while they end.
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        url = f"http://{_HOST}:{port}/api"
        _wait_for(server, url)
        os.environ["PREFECT_API_URL"] = url
        refresh_global_settings_context()
        yield server
    finally:
        _stop(server)


def _require_free(port: int) -> None:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((_HOST, port))
        except OSError as error:
            raise SchedulerError(
                f"Port {port}, on which Prefect's server would listen, is taken: {error.strerror}.",
                f"If that is a Prefect server, set PREFECT_API_URL=http://{_HOST}:{port}/api to use it; "
                "otherwise choose another port with PREFECT_SERVER_API_PORT.",
            ) from error


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_healthy(url):
        if server.poll() is not None or time.monotonic() > deadline:
            ended = "did not answer" if server.poll() is None else f"ended with exit code {server.returncode}"
            raise SchedulerError(
                f"Prefect's server {ended}.",
                "Read what it wrote above; `prefect server start` shows everything. Often the disk is full, "
                "or PREFECT_HOME cannot be written.",
            )
        time.sleep(0.2)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
