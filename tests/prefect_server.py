"""A real Prefect server on loopback, with its own home, that schedules every second."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 30.0

_SETTINGS: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    # In memory, which is the default, a restart of the server forgets who holds a place.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


@dataclass(frozen=True)
class PrefectServer:
    """A running server.

    Attributes:
        url: Address of its API.
        home: Its `PREFECT_HOME`, with the database.
        process: The server.
    """

    url: str
    home: Path
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """What a process needs to use this server, and nothing else that is Prefect's."""
        return {**clean_environment(self.home), "PREFECT_API_URL": self.url}

    def client(self) -> AbstractContextManager[SyncPrefectClient]:
        """A client of this server; what runs in the block uses the server too."""
        return client_of(self.url)


@contextmanager
def client_of(url: str) -> Iterator[SyncPrefectClient]:
    """A client of the server at an address; what runs in the block uses that server too."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        yield client


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment, with the settings of the tests for Prefect in place of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, **_SETTINGS, "PREFECT_HOME": str(home)}


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@contextmanager
def started(home: Path) -> Iterator[PrefectServer]:
    """Start a server on a free port and stop it, and nothing but it, at the end."""
    home.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        # Nothing of ours runs in it: to measure its coverage takes a third of its time, and finds nothing.
        environment = clean_environment(home)
        environment.pop("COVERAGE_PROCESS_CONFIG", None)
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}/api"
        until(lambda: process.poll() is not None or _is_healthy(url), seconds=_START_SECONDS)
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        yield PrefectServer(url, home, process)
    finally:
        stop(process)


def until(condition: Callable[[], Any], *, seconds: float, every: float = 0.2) -> Any:
    """Ask again and again until the answer is true; returns the answer.

    Raises:
        AssertionError: It was not in time.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(every)
    return answer


def stop(process: subprocess.Popen[Any]) -> int:
    """Ask a process to end, with SIGTERM; one that does not is killed. Returns its exit code."""
    process.terminate()
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (int(child), *descendants(int(child)))]


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False
