"""What becomes of a shard that comes back as an error of Ray's."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from ray.exceptions import (
    ObjectLostError,
    RayError,
    RaySystemError,
    RayTaskError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from crackmodel.errors import ClusterError, ReportWriteFailed
from crackmodel.scoring.driver.dispatch import _result


def failed(cause: Exception) -> RayTaskError:
    """What `ray.get` raises for a task that raised something on a node."""
    error: RayTaskError = RayTaskError(
        "_score_shard_task", "Traceback ...", cause, ip="192.0.2.7"
    ).as_instanceof_cause()
    return error


def got(error: RayError, monkeypatch: pytest.MonkeyPatch) -> Any:
    def get(_reference: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    return _result("a reference")


@pytest.mark.parametrize(
    "cause",
    [
        RaySystemError(
            "No module named 'crackmodel.scoring'",
            "Traceback (most recent call last):\n  ...\nNo module named 'crackmodel.scoring'",
        ),
        ModuleNotFoundError("No module named 'crackmodel.scoring'"),
        RuntimeError(
            "The remote function failed to import on the worker. This may be because ... ['/tmp']:\n\n"
            "Traceback (most recent call last):\n  ...\nNo module named 'crackmodel.scoring'"
        ),
    ],
    ids=["argument", "import", "task"],
)
def test_a_node_that_joins_without_this_package_is_named(
    cause: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError) as raised:
        got(failed(cause), monkeypatch)

    assert raised.value.problem == (
        "The cluster's node 192.0.2.7 cannot run crackmodel: No module named 'crackmodel.scoring'."
    )
    assert raised.value.remedy.startswith("Install crackmodel ")


def test_what_a_shard_raises_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReportWriteFailed, match="The disk is full"):
        got(failed(ReportWriteFailed("The disk is full.", "Free some.")), monkeypatch)
    fault = failed(RuntimeError("a fault in this package"))
    with pytest.raises(RayTaskError) as raised:  # its traceback is what one needs
        got(fault, monkeypatch)
    assert raised.value is fault


def test_a_death_is_no_error_and_what_ray_gives_up_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert got(WorkerCrashedError(), monkeypatch) is None
    with pytest.raises(ClusterError, match="Ray gave a shard up: TaskUnschedulableError"):
        got(TaskUnschedulableError("no node"), monkeypatch)
    with pytest.raises(ClusterError, match="Ray gave a shard up: ObjectLostError"):
        got(ObjectLostError("00", None, ""), monkeypatch)
