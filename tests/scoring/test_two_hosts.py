"""Two hosts that share nothing but the network and an object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crackmodel.models.card import card_from_json
from crackmodel.models.registry import PRETRAINED, Registry
from crackmodel.reports.queries import open_report
from tests.object_store import BUCKET, ObjectStore

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
from crackmodel.cluster import ray_session
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


@pytest.fixture
def other_host(tmp_path: Path, object_store: ObjectStore) -> Iterator[str]:
    """Address of a cluster of two nodes to which this test's folder is empty."""
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs nothing "$0" && exec "$@"', tmp_path]
    allowed = subprocess.run([*hide, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"a mount namespace is needed: {allowed.stderr.decode().strip()}")
    host = subprocess.Popen(
        [*hide, sys.executable, "-c", _THE_OTHER_HOST],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | _LOOPBACK,
    )  # fmt: skip
    assert host.stdout is not None
    try:
        yield host.stdout.readline().strip()
    finally:
        host.communicate(timeout=60)  # the end of its input ends it


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
    said = json.loads(done.stdout.splitlines()[-1])
    # What was scored was scored by nodes that see nothing of this test's folder.
    assert (said["scored"], said["rejected"], said["model"]) == (12, 0, "walls@v1")
    photographs, report = said["refused"]
    assert f"does not see {patches}/00.jpg. Mount the same storage" in photographs
    assert f"does not see {tmp_path}/report/_delta_log. Mount the same storage" in report
    assert open_report(f"s3://{BUCKET}/report").sql("from report").num_rows == 12
    assert open_report(tmp_path / "report").sql("from report").num_rows == 0
    assert open_report(f"s3://{BUCKET}/a").sql("from report").num_rows == 0
