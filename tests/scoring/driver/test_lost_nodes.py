"""Nodes that die, join and take the head with them while a survey is scored."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.ray_cluster import printed
from tests.scoring.conftest import Score, rows, until_first_commit

pytestmark = pytest.mark.integration

_CRACKMODEL = Path(sys.executable).with_name("crackmodel")

_LOSE_THE_ONLY_NODE = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from crackmodel.scoring.run_events import ShardCommitted
from crackmodel.scoring.run import score_survey

node = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args=node | {"num_cpus": 0})
victim = cluster.add_node(**node)
ray.init(cluster.address, log_to_driver=False)
lost = []

def listen(event):
    if isinstance(event, ShardCommitted) and not lost:
        lost.append(event.done)
        cluster.remove_node(victim, allow_graceful=False)
        cluster.add_node(**node)

try:
    result = score_survey(sys.argv[1], report=sys.argv[2], shard_images=5, on_event=listen)
    print(json.dumps({"lost_after": lost, "scored": result.scored, "rejected": result.rejected}))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


def test_a_node_dies_another_joins_and_every_image_has_one_row(many: Path, report: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOSE_THE_ONLY_NODE, many, report],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    said = printed(done.stdout)
    # The node that joined had to do the rest: the head offers no CPU, and the first node was gone.
    assert said["lost_after"][0] < said["scored"] == 300
    assert Counter(row["image"] for row in rows(report)) == Counter(path.name for path in many.iterdir())
    assert len(pd.read_parquet(report)) == 300


_NO_NODE_AT_FIRST = """
import json, sys
import ray
from ray.cluster_utils import Cluster
from crackmodel.errors import ClusterError
from crackmodel.cluster import capacity
from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.scoring.run import score_survey

node = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args=node | {"num_cpus": 0})
ray.init(cluster.address, log_to_driver=False)
said, nodes = [], []

def listen(event):
    if isinstance(event, ClusterAwaited):
        said.append(event.text)
        if not nodes:
            nodes.append(cluster.add_node(**node))

try:
    scored = score_survey(sys.argv[1], report=sys.argv[2], on_event=listen).scored
    cluster.remove_node(nodes[0], allow_graceful=False)
    capacity._NO_RESOURCES_SECONDS = 5.0
    try:
        score_survey(sys.argv[1], report=sys.argv[2], on_event=listen, force=True)
    except ClusterError as error:
        said.append(str(error))
    print(json.dumps({"scored": scored, "said": said}))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


def test_a_cluster_without_a_cpu_is_waited_for_but_not_for_ever(patches: Path, report: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NO_NODE_AT_FIRST, patches, report],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    result = printed(done.stdout)
    assert result["scored"] == 12
    first, again, given_up = result["said"]
    assert first == "No Ray node offers a CPU; waiting for 900 s at most"
    assert again.endswith("for 5 s at most")
    assert given_up.startswith("No Ray node offers a CPU, for ")
    assert len(rows(report)) == 12


_ONE_AFTER_THE_OTHER = """
import sys
from crackmodel.cluster.session import shared_ray_session
from crackmodel.errors import ClusterError
from crackmodel.scoring.run import score_survey

with shared_ray_session():
    try:
        score_survey(sys.argv[1], report=sys.argv[2], workers=2)
    except ClusterError as error:
        print(error, flush=True)
    print(score_survey(sys.argv[1], report=sys.argv[2], workers=2).scored)
"""


def test_an_embedded_ray_that_loses_its_node_ends_one_run_and_not_the_next(
    many: Path, report: Path, slowly: dict[str, str]
) -> None:
    runs = subprocess.Popen(
        [sys.executable, "-c", _ONE_AFTER_THE_OTHER, many, report],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | slowly | {"CRACKMODEL_SHARD_IMAGES": "5"},
    )  # fmt: skip
    until_first_commit(report, runs)
    (node,) = _children(runs.pid, "raylet")
    os.kill(node, signal.SIGKILL)
    printed, errors = runs.communicate(timeout=180)

    assert runs.returncode == 0, errors
    assert "run the same command again" in printed
    assert 0 < int(printed.split()[-1]) < 300
    assert len(rows(report)) == 300


def test_a_run_whose_head_dies_ends_and_the_next_one_finishes_it(
    many: Path, report: Path, score: Score, slowly: dict[str, str]
) -> None:
    run = subprocess.Popen(
        [_CRACKMODEL, "score", many, "--report", report, "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | slowly | {"CRACKMODEL_SHARD_IMAGES": "5"},
    )  # fmt: skip
    until_first_commit(report, run)
    (head,) = _children(run.pid, "gcs_server")
    os.kill(head, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = run.communicate(timeout=180)

    assert run.returncode == 1, errors
    assert time.monotonic() - killed < 60  # when Ray would have aborted it
    assert re.search(r"error: Ray's head at 127\.0\.0\.1:\d+ does not answer, for \d+ s\.\n", errors), errors
    assert "run the same command again" in errors
    finished = score(many)
    assert finished.skipped + finished.scored == 300
    assert finished.skipped > 0
    assert Counter(row["image"] for row in rows(report)) == Counter(path.name for path in many.iterdir())
    assert len(pd.read_parquet(report)) == 300


def _children(parent: int, name: str) -> list[int]:
    """Find the processes of a name that a process has started, as Linux tells."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = status.read_text().split(" (", 1)
        except OSError:
            continue
        command, fields = rest.rsplit(") ", 1)
        if command.startswith(name) and int(fields.split()[1]) == parent:
            found.append(int(pid))
    return found
