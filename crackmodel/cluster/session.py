"""Connect to an embedded Ray, or to the cluster that `RAY_ADDRESS` names."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

from crackmodel.errors import ClusterError
from crackmodel.text import one_line

_PROBE_SECONDS: Final = 2.0
"""Longer than a connection within a cluster's network takes."""

_OBJECT_STORE_BYTES: Final = 256 * 2**20
"""For model files and small summaries; no pixel enters Ray's object store."""

_EMBEDDED_ENVIRONMENT: Final = {
    # Ray listens on every interface of a Linux machine by default. This switch, meant for desktops,
    # makes an embedded Ray use 127.0.0.1 throughout. Ray reads it when it is first imported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

_ENVIRONMENT: Final = {
    # Ray repeats a task that ran out of memory forever, and a picture too large for the machine stays so.
    # The variable counts in the process that submits the task, in a cluster too.
    "RAY_task_oom_retries": "1",
}


def joins_cluster() -> bool:
    """Check whether `ray_session` would use a Ray that runs already."""
    ray = sys.modules.get("ray")
    return _address() != "local" or (ray is not None and bool(ray.is_initialized()))


def jobs_address() -> str | None:
    """Return `RAY_ADDRESS` where it is a dashboard's, which takes jobs; else None.

    Then a command that would start Ray runs on that cluster as a job: see `crackmodel.cluster.jobs`.
    """
    address = _address()
    return address if address.startswith(("http://", "https://")) else None


def shown_address(address: str) -> str:
    """Remove a name and a password from an address."""
    return re.sub(r"(?<=://).*@", "", address)


def _address() -> str:
    return os.environ.get("RAY_ADDRESS", "").strip() or "local"


_embedded: Final = threading.Event()
"""Set while this process has a Ray of its own."""


def ray_is_embedded() -> bool:
    """Check whether the Ray of this process ends with it."""
    return _embedded.is_set()


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a Ray, which can be probed without Ray.

    Attributes:
        address: `HOST:PORT`.
        node: `HOST:PORT` of an embedded Ray's only node. Seconds after its death Ray ends this process.
    """

    address: str
    node: str = ""

    def answers(self) -> bool:
        """Check whether its address, and the node's, accept connections."""
        return all(_accepts_connections(address) for address in (self.address, self.node) if address)


def _accepts_connections(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def connected_head() -> Head:
    """Return the head of the Ray that this process is connected to."""
    import ray

    head = ray.get_runtime_context().gcs_address
    return Head(head, _own_node(head) if ray_is_embedded() else "")


@cache
def _own_node(head: str) -> str:
    """Return an embedded Ray's node; cached, as a dead head never answers."""
    import ray

    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


_shared_sessions: Final[list[ExitStack]] = []
"""The blocks that end Ray in place of the session that started it; the innermost last."""


@contextmanager
def shared_ray_session() -> Iterator[None]:
    """Let all runs within the block share one Ray.

    It ends with the block. Each start takes seconds; a block whose runs have nothing to do starts none.
    """
    with ExitStack() as shared:
        _shared_sessions.append(shared)
        try:
            yield
        finally:
            _shared_sessions.remove(shared)


@contextmanager
def ray_session(workers: int | None = None) -> Iterator[None]:
    """Connect to Ray for as long as the block lasts.

    A Ray that this process already uses is used and left running. Else `RAY_ADDRESS` decides, as Ray
    defines it: unset or `local` starts an embedded Ray that listens on loopback and ends with the block;
    `host:port` joins that cluster. A dashboard's address gets a job instead: see `jobs_address`.

    Args:
        workers: CPUs that an embedded Ray offers; all of the machine's if None. A cluster that is
            joined has the CPUs it has.

    Raises:
        ClusterError: The address is one that cannot be joined, or nothing answers there.
    """
    with orders_to_stop(), _connected(workers):
        yield


@contextmanager
def orders_to_stop() -> Iterator[None]:
    """Raise what a signal's handler raised within Ray's native code.

    Python turns it into a SystemError there, which looks like a failure and not like an order to stop.
    """
    try:
        yield
    except SystemError as error:
        raise error.__cause__ or error from None


@contextmanager
def _connected(workers: int | None) -> Iterator[None]:
    address = _address()
    if "://" in address:
        raise ClusterError(
            f"RAY_ADDRESS={shown_address(address)} is a client's address, and this work runs inside the "
            "cluster.",
            "Set it to the head's HOST:6379 on a node of the cluster, or to its dashboard's http://HOST:8265 "
            "and leave --workers out to let a job do the work there, or unset it to use this machine alone.",
        )
    for variable, value in (_ENVIRONMENT | (_EMBEDDED_ENVIRONMENT if address == "local" else {})).items():
        os.environ.setdefault(variable, value)
    # Ray announces its token authentication, which is on by default, as a warning.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    import ray

    if _embedded.is_set() and ray.is_initialized() and not connected_head().answers():
        _end_ray()  # shared by several runs, and lost in one of them: the next run starts a new one
    if ray.is_initialized():
        yield
        return
    try:
        with _own_handler_of_sigterm():
            if address == "local":
                _start_embedded(workers)
                _embedded.set()
            else:
                with orders_to_stop():
                    ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises a bare Exception where its processes take too long to start
        raise ClusterError(
            f"Ray did not start or answer at {address}: {one_line(error, 300)}.",
            "Check that the head runs (`ray status`), that RAY_ADDRESS is its HOST:PORT and that this "
            "machine has the cluster's token; or use --workers 0 to run without Ray.",
        ) from error
    if _shared_sessions:
        _shared_sessions[-1].callback(_end_ray)
        yield
        return
    try:
        yield
    finally:
        _end_ray()


def _end_ray() -> None:
    import ray

    try:
        ray.shutdown()
    finally:
        _embedded.clear()
        _own_node.cache_clear()


@contextmanager
def _own_handler_of_sigterm() -> Iterator[None]:
    """Keep this process's handler of SIGTERM.

    `ray.init` replaces it by one that exits with code 15 and no message.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set handlers, and only restore Python's own
        return
    try:
        yield
    except SystemExit as end:
        signal.signal(signal.SIGTERM, handler)
        if end.code == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def _start_embedded(workers: int | None) -> None:
    """Start Ray on this machine; try twice.

    Ray gives its own processes 30 seconds, which nothing can change. Where its files are read for the first
    time, or the machine is busy, that is not always enough; the second time they are in memory.

    Raises:
        Exception: Ray's own, of any kind, when it has failed twice.
    """
    import ray

    for last in (False, True):
        try:
            with orders_to_stop():
                ray.init(
                    "local",  # never a head that happens to run on this machine
                    num_cpus=workers,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=_OBJECT_STORE_BYTES,
                )
            return
        except Exception:
            if last:
                raise
            ray.shutdown()
