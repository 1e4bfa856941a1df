"""Check that nodes have this package and see the driver's files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from crackmodel import __version__
from crackmodel.errors import ClusterError

_ANSWER_SECONDS: Final = 60.0
"""A node starts a worker process before it answers."""


def require_on_every_node(paths: Sequence[str], remedy: str) -> None:
    """Check that every node has this package and sees local paths.

    Needs a connected Ray; nodes without CPUs do not count. The first task of a node that joins later fails
    instead: see `node_cannot_run`.

    Args:
        paths: Files and folders that the driver sees; with none, nodes are asked for their version alone.
        remedy: What to do where a node does not see one of them.

    Raises:
        ClusterError: A node does not see one, has another version or none, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(_version_and_first_missing)
    asked: dict[Any, str] = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            list(paths)
        ): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    }
    if not asked:
        return
    answered, unanswered = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    for answer in answered:
        try:
            version, missing = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise node_cannot_run(asked[answer], error) from error
        except ray.exceptions.RayError:
            continue  # it died meanwhile, and its work goes elsewhere
        if version != __version__:
            raise ClusterError(
                f"The cluster's node {asked[answer]} has crackmodel {version}, and this is {__version__}.",
                "Install the same version on every node and here.",
            )
        if missing is not None:
            raise ClusterError(f"The cluster's node {asked[answer]} does not see {missing}.", remedy)
    if unanswered:
        raise ClusterError(
            f"The cluster's node {asked[unanswered[0]]} did not answer for {_ANSWER_SECONDS:.0f} s.",
            "Check it with `ray status`, and that crackmodel is installed there as it is here.",
        )


def is_import_failure(error: BaseException) -> bool:
    """Check whether a task failed because its node lacks a package.

    Args:
        error: What `ray.get` raised.
    """
    import ray

    cause = getattr(error, "cause", None)
    # Ray itself raises the first where it cannot read an argument, the last where it cannot read the task.
    return isinstance(cause, ray.exceptions.RaySystemError | ImportError) or (
        isinstance(cause, RuntimeError) and "failed to import on the worker" in str(cause)
    )


def node_cannot_run(node: str, error: BaseException) -> ClusterError:
    """Build the error for a node that cannot run this package.

    Args:
        node: Its name.
        error: What `ray.get` raised.
    """
    cause = getattr(error, "cause", None) or error
    why = str(cause).strip().rpartition("\n")[2].rstrip(".")  # Ray puts a traceback into its words
    return ClusterError(
        f"The cluster's node {node} cannot run crackmodel: {why}.",
        f"Install crackmodel {__version__} there as it is here, for the Python that runs Ray.",
    )


def _version_and_first_missing(paths: list[str]) -> tuple[str, str | None]:
    # Where a folder may not be looked into, os.path says no, and pathlib raises.
    missing = (path for path in paths if not os.path.exists(path))  # noqa: PTH110
    return __version__, next(missing, None)
