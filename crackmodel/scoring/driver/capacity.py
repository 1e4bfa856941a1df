"""How much work Ray can take right now, and how long a run waits while that is nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from crackmodel.cluster.session import connected_head, ray_is_embedded
from crackmodel.errors import ClusterError
from crackmodel.scoring.run_events import ClusterAwaited, Listener
from crackmodel.settings import ScoreSettings

_SHARDS_IN_FLIGHT_PER_SLOT: Final = 2
"""One that runs and one that waits, so that a slot never idles; the rest is not even cut yet."""

_SECONDS_BETWEEN_QUESTIONS: Final = 1.0
"""Clusters grow and shrink, and each question is a call to the head."""

_ANSWER_SECONDS: Final = 2.0

_SECONDS_BEFORE_NOTICE: Final = 3.0

_ROOM_PATIENCE_SECONDS: Final = 900.0
"""A cloud needs minutes for a new machine; some clusters have none but the head until somebody asks."""

_OWN_HEAD_PATIENCE_SECONDS: Final = 3.0
"""Nobody starts the head of an embedded Ray again."""

_RECONNECT_SECONDS: Final = 60.0
_RECONNECT_VARIABLE: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""After so long without a head Ray aborts this process; until then a head may be restarted."""

_ENDING_SECONDS: Final = 15.0
"""To leave a Ray without a head takes seven, and then what is scored is committed."""


class Capacity:
    """Counts the shards that may be in flight, and bears for a while with a cluster that can do nothing.

    Args:
        settings: What a task needs, and how many may run.
        run_id: The run that waits.
        on_event: Is told that it does.
    """

    def __init__(self, settings: ScoreSettings, run_id: str, on_event: Listener) -> None:
        self._settings = settings
        self._head = connected_head()
        self._asked = float("-inf")
        self._resources: dict[str, float] = {}
        self._question: Future[dict[str, float]] | None = None
        needs = _needs(settings)
        self._drought = _Patience(
            f"No node of Ray's offers {needs}",
            "What was scored is committed. Start a node (`ray status` shows those that are there), and run "
            "the same command again.",
            _ROOM_PATIENCE_SECONDS,
        )
        self._silence = _Patience(
            f"Ray's head at {self._head.address} does not answer",
            "What was scored is committed. Where Ray runs on this machine alone, run the same command again; "
            "else check the head first.",
            _head_patience(),
        )
        self._tell = lambda reason, seconds: on_event(ClusterAwaited(run_id, reason, seconds))

    def slots(self) -> int:
        """Count the tasks that can run at once: by the cluster's CPUs and GPUs now, and by `workers`.

        At least one, that waits: a cluster which starts machines when they are needed has to know of it.

        Raises:
            ClusterError: The head has not answered, or no node has had room for a task, for too long.
        """
        self._look()
        fitting = _fitting(self._resources, self._settings)
        return max(1, min(fitting, self._settings.workers or fitting))

    def room(self) -> int:
        """Count the shards that may be in flight.

        Raises:
            ClusterError: As `slots`.
        """
        slots = self.slots()
        if slots < _cpus(self._resources):
            return slots  # one more would run at once, and so many were not asked for
        return slots * _SHARDS_IN_FLIGHT_PER_SLOT

    def _look(self) -> None:
        if time.monotonic() - self._asked < _SECONDS_BETWEEN_QUESTIONS:
            return
        answers = self._head.answers()
        self._silence.bear(not answers, self._tell)
        if answers and (resources := self._ask()) is not None:
            self._resources = resources
            self._drought.bear(not _fitting(resources, self._settings), self._tell)
        self._asked = time.monotonic()

    def _ask(self) -> dict[str, float] | None:
        """Ask the head what there is; None where it takes its time.

        A question to a head that is gone waits until Ray aborts this process: so another thread asks it, and
        none is asked as long as one is open.
        """
        self._question = self._question or _asked(_resources)
        try:
            resources = self._question.result(_ANSWER_SECONDS)
        except TimeoutError:
            return None
        self._question = None
        return resources


class _Patience:
    """Says that something is wrong when it has lasted for a moment, and gives up when it has for long."""

    def __init__(self, problem: str, remedy: str, seconds: float) -> None:
        self._problem, self._remedy, self._seconds = problem, remedy, seconds
        self._since: float | None = None
        self._told = False

    def bear(self, wrong: bool, tell: Any) -> None:
        now = time.monotonic()
        if not wrong:
            self._since, self._told = None, False
            return
        if self._since is None:
            self._since = now
        if now - self._since >= self._seconds:
            raise ClusterError(f"{self._problem}, for {now - self._since:,.0f} s.", self._remedy)
        if now - self._since >= _SECONDS_BEFORE_NOTICE and not self._told:
            self._told = True
            tell(self._problem, self._seconds)


def require_gpus(each: float) -> None:
    """Refuse tasks that would wait for ever.

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
            f"A task needs {each:g} GPUs, and no node of Ray's has more than {there:g}.",
            "Start a node with a GPU first, or leave --gpus-per-task out to score on CPUs.",
        )


def _asked(question: Callable[[], dict[str, float]]) -> Future[dict[str, float]]:
    """Ask in a thread that nobody waits for."""
    answer: Future[dict[str, float]] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="capacity", daemon=True).start()
    return answer


def _needs(settings: ScoreSettings) -> str:
    return f"a CPU and {settings.gpus_per_task:g} GPUs" if settings.gpus_per_task else "a CPU"


def _head_patience() -> float:
    """Wait nearly as long as Ray does, so that this process ends by itself."""
    if ray_is_embedded():
        return _OWN_HEAD_PATIENCE_SECONDS
    try:
        seconds = float(os.environ.get(_RECONNECT_VARIABLE, ""))
    except ValueError:
        seconds = _RECONNECT_SECONDS
    return max(_OWN_HEAD_PATIENCE_SECONDS, seconds - _ENDING_SECONDS)


def _fitting(resources: dict[str, float], settings: ScoreSettings) -> int:
    if not settings.gpus_per_task:
        return _cpus(resources)
    return min(_cpus(resources), int(resources.get("GPU", 0) / settings.gpus_per_task + 1e-6))


def _cpus(resources: dict[str, float]) -> int:
    return int(resources.get("CPU", 0))


def _resources() -> dict[str, float]:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources
