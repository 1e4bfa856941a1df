"""Clusters that cannot be asked."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from crackmodel.errors import ClusterError
from crackmodel.jobs.client import Cluster
from crackmodel.jobs.following import follow


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_an_address_where_nothing_answers_is_named(listener: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"Nothing answers at RAY_ADDRESS={address}"):
            Cluster(address)


def test_without_ray_s_dashboard_the_extra_is_named(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)

    with pytest.raises(ClusterError, match=r"pip install 'crackmodel\[cluster\]'"):
        Cluster(f"http://127.0.0.1:{listener}")


_LOG = ["one\ntw", "o\n", "@FeaturesExtracted ", '{"done": 1, "total": 2}\n', '{"model": "m@v1"}\n']


class _Flaky:
    """A cluster whose log breaks off twice, and ends too early; each connection begins at the beginning."""

    def __init__(self) -> None:
        self.client = self
        self.connections = 0

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        self.connections += 1
        for text in _LOG[: self.connections]:
            yield text
        if self.connections < 3:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_logs(self, job: str) -> str:
        return "".join(_LOG)

    def patiently(self, ask: Callable[[], Any]) -> Any:
        return ask()

    def look(self, job: str) -> Any:
        over = self.connections == 3
        return SimpleNamespace(
            status=SimpleNamespace(is_terminal=lambda: over), driver_exit_code=0, message=""
        )


def test_a_log_that_breaks_off_is_told_once() -> None:
    from crackmodel.jobs.events import JobSaid
    from crackmodel.models.events import FeaturesExtracted

    told: list[Any] = []
    flaky: Any = _Flaky()
    ending = follow(flaky, "job", {"FeaturesExtracted": FeaturesExtracted}, told.append)

    assert flaky.connections == 3
    assert [event for event in told if isinstance(event, FeaturesExtracted)] == [FeaturesExtracted(1, 2)]
    assert "\n".join(event.text for event in told if isinstance(event, JobSaid)) == "one\ntwo"
    assert ending.result == {"model": "m@v1"}
