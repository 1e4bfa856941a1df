"""Do all nodes of a cluster see the same disk? Asked before the first image where folders are local paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from crackmodel.errors import ClusterError

_PATIENCE_SECONDS: Final = 60.0
"""A node starts a worker process before it answers."""


def require_on_every_node(paths: Sequence[str]) -> None:
    """Make sure that local paths lead somewhere on each node of the cluster that may score.

    A node that joins later finds out by itself: its first shard fails with the same advice.

    Args:
        paths: Files and folders that are there as the driver sees it; none needs no asking.

    Raises:
        ClusterError: A node does not see one of them, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if not paths or len(nodes) < 2:
        return
    look = ray.remote(num_cpus=0, max_retries=0)(_first_missing)
    asked: dict[Any, str] = {
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            list(paths)
        ): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in nodes
        if node["Resources"].get("CPU", 0) >= 1
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE_SECONDS)
    for answer in answered:
        try:
            missing = ray.get(answer)
        except ray.exceptions.RayError:
            continue  # it died meanwhile, and its shards go elsewhere
        if missing is not None:
            raise ClusterError(
                f"The cluster's node {asked[answer]} does not see {missing}.",
                "Mount the same storage under the same path on every node, or put survey and report into an "
                "object store (s3://BUCKET/FOLDER); or unset RAY_ADDRESS to use this machine alone.",
            )
    if silent:
        raise ClusterError(
            f"The cluster's node {asked[silent[0]]} did not answer for {_PATIENCE_SECONDS:.0f} s.",
            "Check it with `ray status`, and that crackmodel is installed there as it is here.",
        )


def _first_missing(paths: list[str]) -> str | None:
    return next((path for path in paths if not Path(path).exists()), None)
