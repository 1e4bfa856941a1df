"""Clusters that cannot be asked."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from crackmodel.cluster.jobs import client, log_reader
from crackmodel.cluster.jobs.client import Cluster
from crackmodel.cluster.jobs.log_reader import follow
from crackmodel.errors import ClusterError


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_an_address_where_nothing_answers_is_named(listener: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"Nothing answers at RAY_ADDRESS=http://{place}"):
            Cluster(f"http://me:secret@{place}")


def test_without_ray_s_dashboard_the_extra_is_named(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)

    with pytest.raises(ClusterError, match=r"pip install '\.\[cluster\]'"):
        Cluster(f"http://127.0.0.1:{listener}")


_LOG = ["one\ntw", "o\n", "@FeaturesExtracted ", '{"done": 1, "total": 2}\n', '@result {"model": "m@v1"}\n']


class _Flaky:
    """A cluster whose log is silent, breaks off, falls silent, and ends too early.

    Each connection begins at the beginning.
    """

    def __init__(self) -> None:
        self.client = self
        self.connections = 0

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        self.connections += 1
        if self.connections == 1:
            await asyncio.Event().wait()
        for text in _LOG[: self.connections - 1]:
            yield text
        if self.connections == 2:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        if self.connections == 3:
            await asyncio.Event().wait()

    def get_job_logs(self, job: str) -> str:
        return "".join(_LOG)

    def retried(self, ask: Callable[[], Any]) -> Any:
        return ask()

    def details(self, job: str) -> Any:
        over = self.connections == 4
        return SimpleNamespace(
            status=SimpleNamespace(is_terminal=lambda: over), driver_exit_code=0, message=""
        )


@pytest.mark.timeout(30)
def test_a_log_that_breaks_off_or_falls_silent_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from crackmodel.cluster.jobs.job_events import JobSaid
    from crackmodel.models.training.training_events import FeaturesExtracted

    monkeypatch.setattr(log_reader, "_SECONDS_OF_SILENCE", 0.2)
    told: list[Any] = []
    flaky: Any = _Flaky()
    ending = follow(flaky, "job", {"FeaturesExtracted": FeaturesExtracted}, told.append)

    assert flaky.connections == 4
    assert [event for event in told if isinstance(event, FeaturesExtracted)] == [FeaturesExtracted(1, 2)]
    assert "\n".join(event.text for event in told if isinstance(event, JobSaid)) == "one\ntwo"
    assert ending.result == {"model": "m@v1"}


class _Head:
    """A head that fails to do what it is asked, a few times."""

    def __init__(self, *answers: Exception | bool) -> None:
        self.answers = list(answers)
        self.asked = self.looked = 0

    def submit_job(self, **_: Any) -> None:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer

    def stop_job(self, job: str) -> bool:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def get_job_info(self, job: str) -> Any:
        self.looked += 1
        over = not self.answers and self.looked > 2
        return SimpleNamespace(status=SimpleNamespace(is_terminal=lambda: over))


def cluster_of(head: _Head, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster with such a head, asked without waiting."""

    def connect(address: str) -> _Head:
        assert address == "http://me:secret@head:8265"
        return head

    monkeypatch.setattr(client, "_require_answer", lambda address: None)
    monkeypatch.setattr(client, "_connect", connect)
    monkeypatch.setattr(client, "_POLL_SECONDS", 0.001)
    return Cluster("http://me:secret@head:8265/")


_UNKNOWN = RuntimeError("Request failed with status code 404: Job mine does not exist.")
_BROKEN = RuntimeError("Request failed with status code 500: Traceback")
_REFUSED = RuntimeError("Request failed with status code 400: no such thing")


@pytest.mark.timeout(60)
def test_an_order_to_stop_is_given_until_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # The job is on its way, it has not begun, the head fails, the head is not there, the head does it.
    head = _Head(_UNKNOWN, False, _BROKEN, ConnectionError(), True)
    cluster_of(head, monkeypatch).stop("mine")

    assert head.asked == 5
    assert head.looked > 2  # until the job is over


@pytest.mark.parametrize(
    ("failure", "orders"),
    [(_REFUSED, 0), (_BROKEN, 1), (TimeoutError(), 1)],
    ids=["refused", "500", "silent"],
)
@pytest.mark.timeout(60)
def test_only_a_job_that_the_cluster_refused_needs_no_stopping(
    failure: Exception, orders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = _Head(failure, True)
    cluster = cluster_of(head, monkeypatch)
    with pytest.raises(ClusterError, match="at http://head:8265 "):
        cluster.submit("mine", "crackmodel score", {}, {})
    cluster.stop("mine")

    assert head.asked == orders
