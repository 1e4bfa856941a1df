"""Features by Ray tasks: a bounded number in flight, nothing left in Ray's memory, no endless wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from crackmodel.models.datasets.labelled import find_images
from crackmodel.models.registry.registry import PRETRAINED
from crackmodel.models.training import features
from crackmodel.models.training.features import extract_features

_SLOTS = 2  # of the embedded Ray

_WITHOUT_CPUS = """
import sys
from pathlib import Path
import ray
from crackmodel.cluster import capacity
from crackmodel.errors import ClusterError
from crackmodel.models.datasets.labelled import find_images
from crackmodel.models.training import features

features.CHUNK = 40
capacity._NO_RESOURCES_SECONDS = 4.0
ray.init("local", num_cpus=0, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
try:
    features.extract_features(find_images(sys.argv[1]), Path(sys.argv[2]).read_bytes(), on_event=print)
except ClusterError as error:
    print(error)
ray.shutdown()
"""


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch, embedded_ray: None) -> list[int]:
    """How many tasks were waited for, each time; chunks are of two files."""
    counts: list[int] = []
    wait = ray.wait

    def counted(references: list[Any], **given: Any) -> Any:
        counts.append(len(references))
        return wait(references, **given)

    monkeypatch.setattr(ray, "wait", counted)
    monkeypatch.setattr(features, "CHUNK", 2)
    return counts


def test_few_chunks_are_in_flight_however_many_there_are(drawn_dataset: Path, in_flight: list[int]) -> None:
    images, model = find_images(drawn_dataset), (PRETRAINED / "model.tflite").read_bytes()

    on_ray = extract_features(images, model)

    assert len(in_flight) >= 40
    assert _SLOTS <= max(in_flight) <= 2 * _SLOTS
    inline = extract_features(images, model, workers=0)
    np.testing.assert_array_equal(on_ray.values, inline.values)
    assert on_ray.sha256 == inline.sha256


def test_workers_bound_the_tasks_of_a_ray_with_more_cpus(drawn_dataset: Path, in_flight: list[int]) -> None:
    extract_features(find_images(drawn_dataset), (PRETRAINED / "model.tflite").read_bytes(), workers=1)

    assert max(in_flight) == 1


def test_no_features_stay_in_rays_object_store(drawn_dataset: Path, embedded_ray: None) -> None:
    files = find_images(drawn_dataset).files

    parts = features._run_on_ray(
        drawn_dataset, [files[:2], files[2:4]], (PRETRAINED / "model.tflite").read_bytes(), None, print
    )

    assert [part.values.flags.owndata for _, part in parts] == [True, True]


@pytest.mark.integration
def test_cluster_without_cpus_is_not_waited_for_without_end(drawn_dataset: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT_CPUS, str(drawn_dataset), str(PRETRAINED / "model.tflite")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "ClusterAwaited(reason='No Ray node offers a CPU', seconds=4.0)" in run.stdout
    assert "No Ray node offers a CPU, for" in run.stdout
    assert "Start a node" in run.stdout
