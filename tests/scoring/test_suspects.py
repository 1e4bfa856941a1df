"""An image in a process of its own: what is the image's fault, and what is not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crackmodel.errors import ClusterError
from crackmodel.models.registry import Registry
from crackmodel.reports.table import ReportTable
from crackmodel.scoring import suspects
from crackmodel.scoring.job import ScoringJob
from crackmodel.scoring.run import load_model_file
from crackmodel.scoring.shards import ListedFile, Shard
from crackmodel.surveys.limits import DecodeLimits
from crackmodel.surveys.listing import Survey

ENDLESS = """
import hashlib
def sha256(data=b""):
    while True:
        pass
hashlib.sha256 = sha256
"""
"""A `sitecustomize` with which no image ever ends."""


@pytest.fixture
def job(patches: Path, report: Path) -> ScoringJob:
    ReportTable.open_or_create(report)
    return ScoringJob(
        run_id="20261123T063950Z-b4b2c7",
        survey=Survey("patches", str(patches)),
        report=str(report),
        model=load_model_file(Registry("models").resolve("builtin"), "litert"),
        tile=227,
        overlap=0,
        limits=DecodeLimits(),
        software="crackmodel",
        image_seconds=30.0,
    )


@pytest.fixture
def shard(patches: Path) -> Shard:
    image = patches / "03.jpg"
    modified = datetime.fromtimestamp(image.stat().st_mtime, UTC)
    return Shard(7, (ListedFile(image.name, image.stat().st_size, modified),), cut=True)


def test_an_image_that_does_nothing_is_scored(job: ScoringJob, shard: Shard) -> None:
    result = suspects.score_suspect(job, shard)

    assert (result.shard, result.images, result.rejected) == (7, 1, {})


def test_an_image_is_not_blamed_for_a_process_that_does_not_start(
    job: ScoringJob, shard: Shard, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(ClusterError, match="ended with exit code 1 before it had looked"):
        suspects.score_suspect(job, shard)
    assert not list(report.rglob("*part-*"))


def test_a_process_that_hangs_ends_though_its_parent_was_killed(
    job: ScoringJob, shard: Shard, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDLESS)
    script = "from crackmodel.scoring import suspects; suspects._GRACE_SECONDS = 1.0; suspects._answer()"
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    answer, errors = child.communicate(pickle.dumps((replace(job, image_seconds=1.0), shard)), timeout=60)

    assert (child.returncode, answer) == (1, b"+")
    assert errors.startswith(b"Timeout")
