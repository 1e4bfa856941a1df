"""How many tasks are in flight, and how long a cluster that can take none is waited for."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from crackmodel.cluster import capacity
from crackmodel.cluster.capacity import Capacity, ClusterAwaited
from crackmodel.cluster.session import Head
from crackmodel.errors import ClusterError


class Cluster:
    """What stands in for Ray, and for the clock."""

    address = "192.0.2.1:6379"

    def __init__(self) -> None:
        self.now = 1000.0
        self.up, self.dies_meanwhile, self.questions = True, False, 0
        self.restarted = threading.Event()
        self.resources: dict[str, float] = {"CPU": 4.0}
        self.said: list[ClusterAwaited] = []

    def monotonic(self) -> float:
        return self.now

    def answers(self) -> bool:
        return self.up

    def asked(self) -> dict[str, float]:
        self.questions += 1
        if not self.up or self.dies_meanwhile:
            self.up = False
            self.restarted.wait(60)
        return self.resources

    def watched(self, **settings: Any) -> Capacity:
        return Capacity(**settings, on_wait=self.said.append)

    def passes(self, seconds: int, watched: Capacity) -> list[int]:
        rooms = []
        for _ in range(seconds):
            self.now += 1
            rooms.append(watched.room())
        return rooms


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(capacity, "time", cluster)
    monkeypatch.setattr(capacity, "connected_head", lambda: cluster)
    monkeypatch.setattr(capacity, "_cluster_resources", cluster.asked)
    monkeypatch.setattr(capacity, "ray_is_embedded", lambda: False)  # other tests keep one in this process
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s", raising=False)
    return cluster


@pytest.mark.parametrize(
    ("resources", "settings", "slots", "room"),
    [
        ({"CPU": 4.0}, {}, 4, 8),
        ({"CPU": 4.0}, {"workers": 2}, 2, 2),
        ({"CPU": 4.0}, {"workers": 9}, 4, 8),
        ({"CPU": 4.0, "GPU": 1.0}, {"gpus": 0.5}, 2, 2),
        ({"CPU": 4.0, "GPU": 1.0}, {"gpus": 0.1}, 4, 8),
        ({}, {}, 1, 2),  # asks for a machine where one is started on demand
        ({}, {"workers": 3}, 1, 2),
        ({"CPU": 0.5}, {}, 1, 2),
    ],
)
def test_as_much_is_in_flight_as_a_cluster_can_take(
    resources: dict[str, float], settings: dict[str, Any], slots: int, room: int, cluster: Cluster
) -> None:
    cluster.resources = resources

    assert (cluster.watched(**settings).slots(), cluster.watched(**settings).room()) == (slots, room)


@pytest.mark.parametrize(
    ("there", "settings", "needs"),
    [({}, {}, "a CPU"), ({"CPU": 2.0}, {"gpus": 0.5}, "a CPU and 0.5 GPUs")],
)
def test_a_cluster_that_can_run_nothing_is_reported_once_and_given_up_after_a_quarter_of_an_hour(
    there: dict[str, float], settings: dict[str, Any], needs: str, cluster: Cluster
) -> None:
    watched = cluster.watched(**settings)
    cluster.resources = there

    cluster.passes(900, watched)
    assert cluster.said == [ClusterAwaited(f"No Ray node offers {needs}", 900)]
    with pytest.raises(ClusterError, match=f"No Ray node offers {needs}, for 900 s"):
        cluster.passes(1, watched)


def test_a_node_that_joins_ends_the_wait_and_another_wait_is_reported_again(cluster: Cluster) -> None:
    watched = cluster.watched()
    for _ in range(2):
        cluster.resources = {}
        cluster.passes(800, watched)
        cluster.resources = {"CPU": 3.0}
        assert cluster.passes(2, watched) == [6, 6]

    assert len(cluster.said) == 2


def test_a_head_that_is_restarted_in_time_is_waited_for(cluster: Cluster) -> None:
    watched = cluster.watched()
    assert watched.room() == 8
    cluster.up = False
    assert cluster.passes(44, watched) == [8] * 44
    cluster.up, cluster.resources = True, {"CPU": 1.0}

    assert cluster.passes(1, watched) == [2]
    assert cluster.said == [ClusterAwaited("Ray's head at 192.0.2.1:6379 does not answer", 45)]


@pytest.mark.parametrize(
    ("embedded", "variable", "seconds"),
    [(False, None, 45), (False, "200", 185), (False, "9", 3), (False, "soon", 45), (True, "200", 3)],
)
def test_a_head_that_is_lost_ends_the_run_before_ray_does(
    embedded: bool, variable: str | None, seconds: int, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "ray_is_embedded", lambda: embedded)
    if variable is not None:
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", variable)
    watched = cluster.watched()
    cluster.up = False

    cluster.passes(seconds, watched)
    with pytest.raises(ClusterError, match=rf"head at 192\.0\.2\.1:6379 does not answer, for {seconds} s"):
        cluster.passes(1, watched)


def test_a_head_that_is_lost_while_it_is_asked_ends_the_run_too(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_ANSWER_SECONDS", 0.05)
    watched = cluster.watched()
    assert watched.room() == 8
    cluster.dies_meanwhile = True

    try:
        assert cluster.passes(1 + 45, watched) == [8] * 46
        assert cluster.questions == 2
        with pytest.raises(ClusterError, match="does not answer, for 45 s"):
            cluster.passes(1, watched)
    finally:
        cluster.restarted.set()


def test_a_head_answers_as_long_as_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}")
        assert head.answers()
        assert head.answers()
    assert not head.answers()
