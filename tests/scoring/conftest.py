"""Surveys that a test may change, scored in this process unless it says otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from crackmodel.reports.reading.query import open_report
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run import score_survey
from tests.prefect_server import until

Score = Callable[..., RunResult]

_SLOW_HASHLIB = """
import hashlib, time
real = hashlib.sha256
def sha256(data=b"", **options):
    time.sleep(0.1)
    return real(data, **options)
hashlib.sha256 = sha256
"""


@pytest.fixture
def survey(tmp_path: Path, sample_survey: Path) -> Path:
    """The drawn survey, to be changed at will."""
    return shutil.copytree(sample_survey, tmp_path / "bridge-07")


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Twelve small grey patches: quick to score, none with a crack."""
    folder = tmp_path / "patches"
    folder.mkdir()
    noise = np.random.default_rng(3)
    for number in range(12):
        grey = noise.normal(150, 6, (227, 227, 1)).repeat(3, axis=2).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.jpg"), grey)
    return folder


@pytest.fixture
def many(patches: Path, tmp_path: Path) -> Path:
    """Three hundred patches."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        shutil.copy(patches / f"{number % 12:02}.jpg", folder / f"{number:03}.jpg")
    return folder


@pytest.fixture
def slowly(tmp_path: Path) -> dict[str, str]:
    """Environment of a command whose images take a tenth of a second each: time to do something to it."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SLOW_HASHLIB)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report"


@pytest.fixture
def score(report: Path) -> Score:
    """Score into this test's report, without Ray."""

    def run(survey: Path, **settings: Any) -> RunResult:
        return score_survey(survey, **{"report": report, "workers": 0, **settings})

    return run


def until_first_commit(report: Path, run: subprocess.Popen[Any]) -> None:
    """Wait until a run has committed a shard, or has ended."""
    log = report / "_delta_log" / f"{1:020}.json"
    until(lambda: log.exists() or run.poll() is not None, seconds=120, every=0.02)


def rows(report: Path, query: str = "from report order by image") -> list[dict[str, Any]]:
    """Ask a report."""
    table: pa.Table = open_report(report).sql(query)
    return table.to_pylist()
