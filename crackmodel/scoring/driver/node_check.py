"""Can all nodes of a cluster run this package, and see the same disk? Asked before the first image."""

from __future__ import annotations

from collections.abc import Sequence

from crackmodel.cluster.nodes import blind_nodes
from crackmodel.errors import ClusterError


def require_on_every_node(paths: Sequence[str]) -> None:
    """Make sure that each node of the cluster that may score has this package and sees local paths.

    A node that joins later finds out by itself: its first shard fails with the same advice.

    Args:
        paths: Files and folders that are there as the driver sees it; none where both are in a store.

    Raises:
        ClusterError: A node does not see one of them, has another version or none, or does not answer.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    for node, missing in blind_nodes(paths):
        raise ClusterError(
            f"The cluster's node {node} does not see {missing}.",
            "Mount the same storage under the same path on every node, or put survey and report into an "
            "object store (s3://BUCKET/FOLDER); or unset RAY_ADDRESS to use this machine alone.",
        )
