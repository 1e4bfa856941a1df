"""Where Ray comes from: what happens when it does not come at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

import pytest
import ray

from crackmodel.cluster import session
from crackmodel.cluster.session import Head, jobs_address, ray_is_embedded, ray_session, shared_ray_session
from crackmodel.errors import ClusterError


def failing(times: int, started: list[str]) -> Callable[..., None]:
    """What stands in for `ray.init`: fails so often, as Ray does when its processes are too slow."""

    def init(address: str, **_: object) -> None:
        started.append(address)
        if len(started) <= times:
            raise Exception("The current node timed out during startup.")

    return init


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_an_embedded_ray_that_was_too_slow_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(ray, "init", failing(1, started))

    with ray_session(workers=1):
        assert started == ["local", "local"]


def test_an_embedded_ray_that_fails_twice_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(ray, "init", failing(9, started))

    with pytest.raises(ClusterError, match="timed out during startup"), ray_session(workers=1):
        pytest.fail("there is no Ray")
    assert len(started) == 2


def test_a_task_without_memory_is_not_repeated_for_ever_in_a_cluster_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = ("RAY_task_oom_retries", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    for variable in variables:
        monkeypatch.setenv(variable, "to be restored")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    told: list[str | None] = []
    monkeypatch.setattr(ray, "init", lambda *_, **__: told.extend(map(os.environ.get, variables)))

    with ray_session():
        assert told == ["1", None]


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "ray://127.0.0.1:10001"])
def test_an_address_for_clients_is_no_place_to_drive_tasks_from(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)

    with pytest.raises(ClusterError, match=f"{address} is a client's address"), ray_session():
        pytest.fail("there is no Ray")


@pytest.mark.parametrize(
    ("address", "jobs"),
    [
        ("", None),
        ("local", None),
        ("127.0.0.1:6379", None),
        ("ray://127.0.0.1:10001", None),
        (" http://127.0.0.1:8265 ", "http://127.0.0.1:8265"),
        ("https://ray.example", "https://ray.example"),
    ],
)
def test_a_dashboard_s_address_asks_for_a_job(
    address: str, jobs: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)

    assert jobs_address() == jobs


class OrderToStop(BaseException):
    """What Prefect raises on SIGTERM is of this kind: no `Exception`."""


def native_code() -> None:
    """What becomes of an exception that a signal's handler raises in native code."""
    raise SystemError("returned a result with an exception set") from OrderToStop()


def test_an_order_to_stop_is_none_to_start_ray_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def init(address: str, **_: object) -> None:
        started.append(address)
        native_code()

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(OrderToStop), ray_session(workers=1):
        pytest.fail("there is no Ray")
    assert started == ["local"]


@pytest.mark.parametrize("already", [True, False])
def test_an_order_to_stop_that_comes_while_ray_works_is_one(
    already: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: already)
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)

    with pytest.raises(OrderToStop), ray_session(workers=1):
        native_code()
    with pytest.raises(SystemError, match="of its own"), ray_session(workers=1):
        raise SystemError("of its own")


@pytest.mark.parametrize("address", ["local", "192.0.2.1:6379"])
def test_sigterm_that_comes_while_ray_starts_is_the_order_to_stop_that_it_was(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(_number: int, _frame: FrameType | None) -> None:
        raise OrderToStop

    def init(_address: str, **_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as `ray.init` does
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, order)
    try:
        with pytest.raises(OrderToStop), ray_session():
            pytest.fail("there is no Ray")
        assert signal.getsignal(signal.SIGTERM) is order
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_what_it_was_after_a_ray_that_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(_address: str, **_: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", init)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ClusterError, match="nobody answers"), ray_session():
        pytest.fail("there is no Ray")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_kept_ray_that_has_lost_its_head_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    living: set[int] = set()
    started: list[int] = []

    def init(_address: str, **_: object) -> None:
        started.append(len(started))
        living.add(started[-1])

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(living))
    monkeypatch.setattr(ray, "shutdown", living.clear)
    monkeypatch.setattr(session, "connected_head", lambda: Head("127.0.0.1:6379"))
    monkeypatch.setattr(Head, "answers", lambda _: started[-1] > 0)
    with shared_ray_session():
        for _ in range(3):
            with ray_session(workers=1):
                assert ray_is_embedded()
        assert (started, living) == ([0, 1], {1})

    assert not living
    assert not ray_is_embedded()
