"""Do all nodes of a cluster see the same disk? Asked before the first image where folders are local paths."""

from __future__ import annotations

from collections.abc import Sequence

from crackmodel.cluster import blind_nodes
from crackmodel.errors import ClusterError


def require_on_every_node(paths: Sequence[str]) -> None:
    """Make sure that local paths lead somewhere on each node of the cluster that may score.

    A node that joins later finds out by itself: its first shard fails with the same advice.

    Args:
        paths: Files and folders that are there as the driver sees it; none needs no asking.

    Raises:
        ClusterError: A node does not see one of them, or does not answer.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if not paths or len(nodes) < 2:
        return
    for node, missing in blind_nodes(paths):
        raise ClusterError(
            f"The cluster's node {node} does not see {missing}.",
            "Mount the same storage under the same path on every node, or put survey and report into an "
            "object store (s3://BUCKET/FOLDER); or unset RAY_ADDRESS to use this machine alone.",
        )
