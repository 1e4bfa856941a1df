"""What Prometheus reads from a node of Ray's while and after runs score on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from crackmodel.scoring.worker.stages import STAGES

pytestmark = pytest.mark.integration

_CRACKMODEL = Path(sys.executable).with_name("crackmodel")
_SAMPLE = re.compile(r"^ray_crackmodel_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


def scrape(port: int, survey: str) -> dict[str, float]:
    """Read a node's endpoint; counters of a survey by name and labels of ours."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Counter[str] = Counter()
    for name, labels, value in _SAMPLE.findall(text):
        given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if given["survey"] == survey:
            ours = [given[key] for key in ("verdict", "code", "stage") if key in given]
            found[" ".join([name, *ours])] += float(value)
    return found


def test_counters_of_a_run_that_has_ended_can_be_scraped(
    embedded_ray: None, patches: Path, report: Path
) -> None:
    import ray

    (patches / "13.jpg").write_text("no picture")
    address = ray.get_runtime_context().gcs_address
    subprocess.run(
        [_CRACKMODEL, "score", patches, "--report", report, "--workers", "2", "--name", "counted"],
        env=os.environ | {"RAY_ADDRESS": address}, timeout=200, check=True, capture_output=True,
    )  # fmt: skip

    (node,) = ray.nodes()
    deadline = time.monotonic() + 60
    while "images_total clear" not in (found := scrape(node["MetricsExportPort"], "counted")):
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert found["images_total clear"] == 12
    assert found["images_total rejected"] == found["rejected_total mislabelled"] == 1
    assert found["tiles_total"] == 12
    assert all(found[f"stage_seconds_total {stage}"] > 0 for stage in STAGES)
