"""The number of tasks that Ray can take, and waiting for room."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from crackmodel.cluster.session import connected_head, ray_is_embedded
from crackmodel.errors import ClusterError

_TASKS_PER_SLOT: Final = 2
"""One that runs and one that waits, so that a slot never idles."""

_SECONDS_BETWEEN_QUESTIONS: Final = 1.0
"""Clusters grow and shrink, and each question is a call to the head."""

_ANSWER_SECONDS: Final = 2.0

_SECONDS_BEFORE_NOTICE: Final = 3.0

_NO_RESOURCES_SECONDS: Final = 900.0
"""A cloud needs minutes for a new machine; some clusters start none before a task waits for it."""

_OWN_HEAD_SECONDS: Final = 3.0
"""Nobody starts the head of an embedded Ray again."""

_RECONNECT_SECONDS: Final = 60.0
_RECONNECT_VARIABLE: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""After so long without a head Ray aborts this process; until then a head may be restarted."""

_ENDING_SECONDS: Final = 15.0
"""Leaving a Ray without a head takes seven, and the caller has work to finish then."""


@dataclass(frozen=True, slots=True)
class ClusterAwaited:
    """The cluster can take no task; work waits `seconds` at most."""

    reason: str
    seconds: float

    @property
    def text(self) -> str:
        """The reason and the longest wait."""
        return f"{self.reason}; waiting for {self.seconds:,.0f} s at most"


OnWait = Callable[[ClusterAwaited], None]


class Capacity:
    """The number of tasks that may be in flight.

    Needs a connected Ray. Raises a ClusterError by itself where the head is down for longer than Ray allows:
    Ray would abort this process then, without a word and before the caller can finish its work.

    Args:
        workers: Most tasks, of one CPU each, that run at once; None for as many as the cluster has room for.
        gpus: GPUs of each task, or a share of one.
        on_wait: Called when a wait has lasted for a moment.
    """

    def __init__(self, workers: int | None = None, gpus: float = 0.0, *, on_wait: OnWait) -> None:
        self._workers, self._gpus = workers, gpus
        self._head = connected_head()
        self._asked = float("-inf")
        self._resources: dict[str, float] = {}
        self._question: Future[dict[str, float]] | None = None
        self._no_resources = _GracePeriod(
            f"No Ray node offers a CPU{f' and {gpus:g} GPUs' if gpus else ''}",
            "What was finished is kept. Start a node (`ray status` lists those that are there), and run the "
            "same command again.",
            _NO_RESOURCES_SECONDS,
            on_wait,
        )
        self._head_down = _GracePeriod(
            f"Ray's head at {self._head.address} does not answer",
            "What was finished is kept. Where Ray runs on this machine alone, run the same command again; "
            "else check the head first.",
            _head_seconds(),
            on_wait,
        )

    def slots(self) -> int:
        """Count the tasks that can run at once.

        At least one, which waits: a cluster that starts machines on demand has to know of it.

        Raises:
            ClusterError: The head has not answered, or no node has had room for a task, for too long.
        """
        self._refresh()
        fitting = self._fitting()
        return max(1, min(fitting, self._workers or fitting))

    def room(self) -> int:
        """Count the tasks that may be in flight.

        Raises:
            ClusterError: As `slots`.
        """
        slots = self.slots()
        if slots < self._cpus():
            return slots  # one more would run at once, and so many were not asked for
        return slots * _TASKS_PER_SLOT

    def _refresh(self) -> None:
        if time.monotonic() - self._asked < _SECONDS_BETWEEN_QUESTIONS:
            return
        answers = self._head.answers()
        self._head_down.check(not answers)
        if answers and (resources := self._ask()) is not None:
            self._resources = resources
            self._no_resources.check(not self._fitting())
        self._asked = time.monotonic()

    def _ask(self) -> dict[str, float] | None:
        """Ask the head for the cluster's resources; None without an answer.

        A question to a head that is gone waits until Ray aborts this process. So a daemon thread asks it,
        and only one at a time.
        """
        if self._question is None:
            self._question = Future()
            threading.Thread(target=_answer, args=(self._question,), name="capacity", daemon=True).start()
        try:
            resources = self._question.result(_ANSWER_SECONDS)
        except TimeoutError:
            return None
        self._question = None
        return resources

    def _fitting(self) -> int:
        if not self._gpus:
            return self._cpus()
        return min(self._cpus(), int(self._resources.get("GPU", 0) / self._gpus + 1e-6))

    def _cpus(self) -> int:
        return int(self._resources.get("CPU", 0))


@dataclass(slots=True)
class _GracePeriod:
    """A problem that is reported first, and then an error."""

    problem: str
    remedy: str
    seconds: float
    on_wait: OnWait
    since: float | None = None
    reported: bool = False

    def check(self, failing: bool) -> None:
        """Take note that the problem lasts, or that it is over.

        Raises:
            ClusterError: It has lasted for too long.
        """
        if not failing:
            self.since, self.reported = None, False
            return
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        if now - self.since >= self.seconds:
            raise ClusterError(f"{self.problem}, for {now - self.since:,.0f} s.", self.remedy)
        if now - self.since >= _SECONDS_BEFORE_NOTICE and not self.reported:
            self.reported = True
            self.on_wait(ClusterAwaited(self.problem, self.seconds))


def require_gpus(each: float) -> None:
    """Refuse tasks that would wait forever for GPUs.

    Raises:
        ClusterError: No node has so many GPUs.
    """
    if not each:
        return
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    there = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    if each > there:
        raise ClusterError(
            f"A task needs {each:g} GPUs, and no Ray node has more than {there:g}.",
            "Start a node with a GPU first, or leave --gpus-per-task out to score on CPUs.",
        )


def _head_seconds() -> float:
    """Return nearly the time after which Ray would abort this process."""
    if ray_is_embedded():
        return _OWN_HEAD_SECONDS
    try:
        seconds = float(os.environ.get(_RECONNECT_VARIABLE, ""))
    except ValueError:
        seconds = _RECONNECT_SECONDS
    return max(_OWN_HEAD_SECONDS, seconds - _ENDING_SECONDS)


def _answer(question: Future[dict[str, float]]) -> None:
    try:
        question.set_result(_cluster_resources())
    except BaseException as error:
        question.set_exception(error)


def _cluster_resources() -> dict[str, float]:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources
