"""Two hosts that share nothing but the network and an object store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import crackmodel
from crackmodel.models.card.card import card_from_json
from crackmodel.models.registry.registry import PRETRAINED, Registry
from crackmodel.reports.reading.query import open_report
from tests.object_store import BUCKET, ObjectStore
from tests.ray_cluster import printed

pytestmark = pytest.mark.integration

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}

_THE_OTHER_HOST = """
import sys
from ray.cluster_utils import Cluster

node = {"object_store_memory": 100_000_000, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node | {"num_cpus": 0})
cluster.add_node(object_store_memory=100_000_000, num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

_DRIVER = """
import json, sys
from crackmodel.cluster.session import ray_session
from crackmodel.errors import ClusterError
from crackmodel.scoring.run import score_survey

disk, photographs, bucket = sys.argv[1:]
said = {"refused": []}
with ray_session():
    for survey, report in ((photographs, f"{bucket}/a"), (f"{bucket}/deck", f"{disk}/report")):
        try:
            score_survey(survey, report=report)
        except ClusterError as error:
            said["refused"].append(str(error))
    result = score_survey(f"{bucket}/deck", report=f"{bucket}/report", models=f"{disk}/models", model="walls")
print(json.dumps(said | {"scored": result.scored, "rejected": result.rejected, "model": result.model}))
"""


def host(change: str, *arguments: str | Path) -> Iterator[str]:
    """Start a cluster of two nodes in a mount namespace, and give its address.

    Args:
        change: A shell command that mounts something; `$1` and so on are its arguments.
        *arguments: These.
    """
    hide = ["unshare", "--mount", "sh", "-c"]
    allowed = subprocess.run([*hide, change, "sh", *arguments], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"a mount namespace is needed: {allowed.stderr.decode().strip()}")
    script = f'{change} && shift {len(arguments)} && exec "$@"'
    started = subprocess.Popen(
        [*hide, script, "sh", *arguments, sys.executable, "-c", _THE_OTHER_HOST],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | _LOOPBACK,
    )  # fmt: skip
    assert started.stdout is not None
    try:
        yield started.stdout.readline().strip()
    finally:
        started.communicate(timeout=60)  # the end of its input ends it


@pytest.fixture
def other_host(tmp_path: Path, object_store: ObjectStore) -> Iterator[str]:
    """Address of a cluster of two nodes to which this test's folder is empty."""
    yield from host('mount -t tmpfs nothing "$1"', tmp_path)


@pytest.fixture
def bare_host() -> Iterator[str]:
    """Address of a cluster of two nodes that have no crackmodel."""
    yield from host('mount -t tmpfs nothing "$1"', Path(crackmodel.__file__).parent)


@pytest.fixture
def older_host(tmp_path: Path) -> Iterator[str]:
    """Address of a cluster of two nodes with an older crackmodel."""
    now = Path(crackmodel.__file__)
    then = tmp_path / "older.py"
    then.write_text(now.read_text().replace(f'"{crackmodel.__version__}"', '"0.0.9"'))
    yield from host('mount --bind "$1" "$2"', then, now)


@pytest.mark.parametrize(
    ("cluster", "problem"),
    [
        ("bare_host", r"cannot run crackmodel: \w+Error: .+\.\n"),
        ("older_host", r"has crackmodel 0\.0\.9, and this is \d+\.\d+\.\d+\.\n"),
    ],
)
def test_a_node_without_this_version_is_named_before_the_first_image(
    cluster: str, problem: str, request: pytest.FixtureRequest, patches: Path, report: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crackmodel", "score", patches, "--report", report],
        capture_output=True, text=True, timeout=180, check=False,
        env=os.environ | _LOOPBACK | {
            "RAY_ADDRESS": request.getfixturevalue(cluster),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )  # fmt: skip

    assert done.returncode == 1
    assert re.search(rf"error: The cluster's node \S+ \(127\.0\.0\.1\) {problem}", done.stderr), done.stderr
    assert "Install " in done.stderr
    assert "Traceback" not in done.stderr
    assert open_report(report).sql("from report").num_rows == 0


def test_workers_need_nothing_of_the_driver_s_disk(
    tmp_path: Path, patches: Path, other_host: str, upload: Callable[[Path, str], str]
) -> None:
    local = Registry(tmp_path / "models")
    with local.staging("walls") as staged:
        for name in ("model.tflite", "ood.npz"):
            (staged / name).write_bytes((PRETRAINED / name).read_bytes())
        local.publish("walls", staged, card_from_json((PRETRAINED / "card.json").read_bytes()))
    upload(patches, "deck")

    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, tmp_path, patches, f"s3://{BUCKET}"],
        capture_output=True, text=True, timeout=180, check=False,
        env=os.environ | _LOOPBACK | {"RAY_ADDRESS": other_host},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    said = printed(done.stdout)
    # What was scored was scored by nodes that see nothing of this test's folder.
    assert (said["scored"], said["rejected"], said["model"]) == (12, 0, "walls@v1")
    photographs, report = said["refused"]
    assert f"does not see {patches}/00.jpg. Mount the same storage" in photographs
    assert f"does not see {tmp_path}/report/_delta_log. Mount the same storage" in report
    assert open_report(f"s3://{BUCKET}/report").sql("from report").num_rows == 12
    assert open_report(tmp_path / "report").sql("from report").num_rows == 0
    assert open_report(f"s3://{BUCKET}/a").sql("from report").num_rows == 0
