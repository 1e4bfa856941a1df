"""Where Ray comes from: an embedded one on this machine, or the cluster that `RAY_ADDRESS` names."""

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

_KNOCK_SECONDS: Final = 2.0
"""Longer than the way through a cluster's network takes."""

_OBJECT_STORE_BYTES: Final = 256 * 2**20
"""Room for model files and small summaries; no pixel enters Ray's object store."""

_EMBEDDED_ENVIRONMENT: Final = {
    # Ray listens on every interface of a Linux machine by default. This switch, meant for desktops,
    # makes an embedded Ray use 127.0.0.1 throughout. Ray reads it when it is first imported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

_ENVIRONMENT: Final = {
    # Ray repeats a task that ran out of memory for ever, and a picture too large for the machine stays so.
    # The process that submits the task decides, in a cluster too.
    "RAY_task_oom_retries": "1",
}


def joins_cluster() -> bool:
    """Tell whether `ray_session` would use a Ray that is there already: this process's, or a cluster's."""
    ray = sys.modules.get("ray")
    return _address() != "local" or (ray is not None and bool(ray.is_initialized()))


def jobs_address() -> str | None:
    """Return the address of the dashboard that takes jobs, where `RAY_ADDRESS` is one.

    Then whatever would start Ray runs on that cluster as a whole, as a job: see `crackmodel.cluster.jobs`.
    """
    address = _address()
    return address if address.startswith(("http://", "https://")) else None


def shown_address(address: str) -> str:
    """Leave out of an address the name and the password that may be in it."""
    return re.sub(r"(?<=://).*@", "", address)


def _address() -> str:
    return os.environ.get("RAY_ADDRESS", "").strip() or "local"


_embedded: Final = threading.Event()
"""Set while this process has a Ray of its own."""


def ray_is_embedded() -> bool:
    """Whether the Ray of this process is its own, whose head nobody else would start again."""
    return _embedded.is_set()


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a Ray, as far as one can tell without Ray.

    Attributes:
        address: `HOST:PORT`.
        node: Where the only node of an embedded Ray listens. Seconds after its death Ray ends this process.
    """

    address: str
    node: str = ""

    def answers(self) -> bool:
        """Whether somebody listens at its address, and at the node's."""
        return all(_is_listened_at(address) for address in (self.address, self.node) if address)


def _is_listened_at(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


def connected_head() -> Head:
    """Name the head of the Ray that this process is connected to."""
    import ray

    head = ray.get_runtime_context().gcs_address
    return Head(head, _own_node(head) if ray_is_embedded() else "")


@cache
def _own_node(head: str) -> str:
    """Find the only node of an embedded Ray; a head that is gone would never answer, so it is remembered."""
    import ray

    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    return f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


_keepers: Final[list[ExitStack]] = []
"""Who ends an embedded Ray in place of the session that started it; the innermost last."""


@contextmanager
def kept_ray() -> Iterator[None]:
    """Let a Ray that `ray_session` connects to within this block live until the block's end.

    For several runs one after the other: each start takes seconds, and with nothing to do none starts.
    """
    with ExitStack() as keeper:
        _keepers.append(keeper)
        try:
            yield
        finally:
            _keepers.remove(keeper)


@contextmanager
def ray_session(workers: int | None = None) -> Iterator[None]:
    """Connect to Ray for as long as the block lasts.

    A Ray that this process already uses is used and left alone. Else `RAY_ADDRESS` decides, as Ray
    defines it: unset or `local` starts an embedded Ray that listens on loopback and ends with the block;
    `host:port` joins that cluster. What could be a job is one before it comes here: see `jobs_address`.

    Args:
        workers: CPUs that an embedded Ray offers; all of the machine's if None. A cluster that is
            joined has the CPUs it has.

    Raises:
        ClusterError: The address is of a kind that cannot be joined, or nothing answers there.
    """
    with orders_to_stop(), _connected(workers):
        yield


@contextmanager
def orders_to_stop() -> Iterator[None]:
    """Let through what the handler of a signal raises while the block waits in Ray's native code.

    Python makes a SystemError of it there, which looks like a failure and not like an order to stop.
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
            f"RAY_ADDRESS={shown_address(address)} is an address for clients, and this work runs inside the "
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
        _end_ray()  # kept for several runs, and lost in one of them: the next one gets a new one
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
            f"Ray did not start or answer at {address}: {' '.join(str(error).split())[:300]}.",
            "Check that the head runs (`ray status`), that RAY_ADDRESS is its HOST:PORT and that this "
            "machine has the cluster's token; or use --workers 0 to run without Ray.",
        ) from error
    if _keepers:
        _keepers[-1].callback(_end_ray)
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
    """Let SIGTERM mean in this block and after it what it meant before, whatever Ray makes of it.

    `ray.init` replaces the handler by one that leaves with exit code 15 and without a word.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has a say in signals, and only over handlers of Python's
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
    """Start Ray on this machine, and once more if it was too slow.

    Ray gives its own processes 30 seconds, which nothing can change. Where its files are read for the first
    time, or the machine is busy, that is not always enough; the second time they are in memory.

    Raises:
        Exception: Ray's own, of whatever kind, when it has failed twice.
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
