"""A real Ray cluster on this machine alone: a head with its dashboard, a worker node, and a token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.prefect_server import free_port, stop, until

_CHECKOUT = Path(__file__).resolve().parent.parent

_PATIENCE_SECONDS = 180


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Where it is.

    Attributes:
        head: `HOST:PORT`, as for those inside the cluster.
        dashboard: `http://HOST:PORT`, as for those outside of it.
        token: What both want to be shown.
    """

    head: str
    dashboard: str
    token: str

    def environment(self, address: str) -> dict[str, str]:
        """Return what a client's environment needs: one of the two addresses, and the token."""
        return _plain_environment() | {
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }


@contextmanager
def start_cluster() -> Iterator[RayCluster]:
    """Start a head and a node with a CPU each, and end both and all that they started."""
    head, dashboard, client, *agents = (free_port() for _ in range(5))
    token = secrets.token_hex(32)
    cluster = RayCluster(f"127.0.0.1:{head}", f"http://127.0.0.1:{dashboard}", token)
    environment = cluster.environment("")
    del environment["RAY_ADDRESS"]
    # Not pytest's folder: the names of Ray's sockets may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, arguments in {
            "head": [
                "--head", f"--port={head}", f"--temp-dir={folder}/ray",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
                f"--ray-client-server-port={client}",
            ],
            "node": [f"--address={cluster.head}"],
        }.items():  # fmt: skip
            log = folder / f"{name}.log"
            command = [
                Path(sys.executable).with_name("ray"), "start", "--block", *arguments,
                "--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={agents.pop()}",
                "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats",
                "--min-worker-port=0", "--max-worker-port=0",
            ]  # fmt: skip
            running.enter_context(_running(command, environment, log))
        yield cluster


@contextmanager
def _running(command: list[str | Path], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        node = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until(lambda: _is_up(log) or node.poll() is not None, seconds=_PATIENCE_SECONDS)
        assert _is_up(log), log.read_text()
        yield
    finally:
        stop(node)  # `ray start --block` ends what it has started


def _is_up(log: Path) -> bool:
    return "Ray runtime started" in log.read_text()


def _plain_environment() -> dict[str, str]:
    """Return this process's environment without what Ray has put there for a Ray of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join(filter(None, (str(_CHECKOUT), os.environ.get("PYTHONPATH"))))
    return kept | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}


def printed(stdout: str) -> Any:
    """Return the last line of JSON that a process printed; Ray prints there too, and after it."""
    return json.loads([line for line in stdout.splitlines() if line.startswith(("{", "["))][-1])
