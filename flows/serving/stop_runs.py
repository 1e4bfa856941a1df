"""End a Prefect worker's runs before the worker itself: `python -m flows.serving.stop_runs WORKER`."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from crackmodel.cli.exits import run_command

_ENGINE: Final = b"prefect.engine"
"""What a process worker starts for each run: `python -m prefect.engine`."""

_POLL_SECONDS: Final = 0.2


def runs_of(worker: int) -> list[int]:
    """Find the flow runs that a process has started, itself or through others.

    Args:
        worker: A worker's process, or the first one of the container that it is in.
    """
    parents = {process: parent for process in _processes() if (parent := _parent(process))}
    return [process for process in parents if _is_run(process) and worker in _ancestors(process, parents)]


def drain(worker: int, seconds: float) -> list[int]:
    """Send SIGTERM to each flow run of a worker, and wait until they have ended.

    A run then keeps what is committed, stops its job on the cluster and becomes `Crashed`. The worker itself
    would kill it at once, without any trace.

    Returns:
        What still runs after so many seconds.
    """
    asked: set[int] = set()
    end = time.monotonic() + seconds
    while left := runs_of(worker):
        for run in set(left) - asked:  # one may begin while another ends
            with suppress(ProcessLookupError):
                os.kill(run, signal.SIGTERM)
        asked.update(left)
        if time.monotonic() >= end:
            break
        time.sleep(_POLL_SECONDS)
    return left


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def _parent(process: int) -> int:
    """The parent of a process, 0 if it is gone or has none."""
    with suppress(OSError):
        # The second field is the program's name in brackets, and may have brackets and spaces in it.
        return int(Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return 0


def _ancestors(process: int, parents: dict[int, int]) -> list[int]:
    found = []
    while process := parents.get(process, 0):
        found.append(process)
    return found


def _is_run(process: int) -> bool:
    with suppress(OSError):
        return _ENGINE in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    return False


def main(
    worker: Annotated[int, typer.Argument(help="Process of the worker; 1 in a container.")],
    seconds: Annotated[float, typer.Option(min=0, help="How long to wait for them.")] = 60.0,
) -> None:
    """Ask the flow runs of a Prefect worker on this machine to end, and wait until they have.

    Example: `python -m flows.serving.stop_runs 1`, in a container before it is stopped.
    """
    if left := drain(worker, seconds):
        # No failure: to Compose it would mean that the container must not be stopped.
        typer.echo(f"{len(left)} flow runs did not end within {seconds:g} s.", err=True)


if __name__ == "__main__":
    run_command(main)
