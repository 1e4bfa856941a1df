"""An image in a process of its own: what is the image's fault, and what is not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import Pipe
from pathlib import Path

import pytest

from crackmodel.errors import ClusterError, ReportWriteFailed
from crackmodel.models.inference.model_file import read_model_file
from crackmodel.models.registry.registry import Registry
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import publish_shard
from crackmodel.scoring.isolation import subprocess_scorer
from crackmodel.scoring.plan import ListedFile, Shard
from crackmodel.scoring.task import ScoringJob
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import Survey
from tests.scoring.conftest import Score, rows

ENDLESS = """
import hashlib
def sha256(data=b""):
    while True:
        pass
hashlib.sha256 = sha256
"""
"""A `sitecustomize` with which no image ever ends."""

NEVER_ON_DISK = """
import os, time
os.fsync = lambda _: time.sleep(600)
"""
"""A `sitecustomize` with which no file is ever written."""

NEVER_UP = """
import time
time.sleep(600)
"""
"""A `sitecustomize` with which no process ever starts."""


@pytest.fixture
def job(patches: Path, report: Path) -> ScoringJob:
    ReportTable.open_or_create(report)
    return ScoringJob(
        run_id="20261123T063950Z-b4b2c7",
        survey=Survey.parse(patches, "patches"),
        report=Location.parse(report),
        model=read_model_file(Registry("models").resolve("builtin"), "litert"),
        settings=ScoreSettings.read(image_seconds=30.0),
    )


@pytest.fixture
def shard(patches: Path) -> Shard:
    image = patches / "03.jpg"
    modified = datetime.fromtimestamp(image.stat().st_mtime, UTC)
    return Shard(7, (ListedFile(image.name, image.stat().st_size, modified),), cut=True)


def test_an_image_that_does_nothing_is_scored(job: ScoringJob, shard: Shard) -> None:
    result = subprocess_scorer.score_in_subprocess(job, shard)

    assert (result.shard, result.images, result.rejected) == (7, 1, {})


def test_an_image_is_not_blamed_for_a_process_that_does_not_start(
    job: ScoringJob, shard: Shard, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(ClusterError, match="ended with exit code 1 before it had read"):
        subprocess_scorer.score_in_subprocess(job, shard)
    assert not list(report.rglob("*part-*"))


def test_a_process_that_hangs_ends_though_its_parent_was_killed(
    job: ScoringJob, shard: Shard, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDLESS)
    script = """
import sys
from multiprocessing.connection import Connection
from crackmodel.scoring.isolation import subprocess_scorer
subprocess_scorer._main(Connection(int(sys.argv[1]), readable=False), grace=1.0)
"""
    receiver, sender = Pipe(duplex=False)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(sender.fileno())],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[sender.fileno()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    sender.close()
    _, errors = child.communicate(
        pickle.dumps((replace(job, settings=ScoreSettings.read(image_seconds=1.0)), shard)), timeout=60
    )

    assert (child.returncode, receiver.recv(), receiver.recv()) == (1, "fetch", "score")
    with pytest.raises(EOFError):
        receiver.recv()
    assert errors.startswith(b"Timeout")


def test_an_image_that_hangs_in_the_decoder_is_at_fault(
    job: ScoringJob, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDLESS)
    monkeypatch.syspath_prepend(tmp_path)

    result = subprocess_scorer.score_in_subprocess(
        replace(job, settings=ScoreSettings.read(image_seconds=3.0)), shard
    )

    assert result.rejected == {"timed_out": 1}


def test_an_image_that_waits_for_its_storage_is_tried_again_by_the_next_run(
    patches: Path, report: Path, score: Score, job: ScoringJob, shard: Shard
) -> None:
    image = patches / shard.files[0].image
    kept = image.rename(patches.with_name("kept.jpg"))
    os.mkfifo(image)  # to open it waits for ever, as on a server that does not answer

    result = subprocess_scorer.score_in_subprocess(
        replace(job, settings=ScoreSettings.read(image_seconds=1.0)), shard
    )

    assert result.rejected == {"unreadable": 1}
    assert result.rejections == ("03.jpg: unreadable, the storage had not given the file after 1 s",)
    publish_shard(str(report), result.file)
    ReportTable.open(report).commit([result.file], run_id=job.run_id)
    image.unlink()
    kept.rename(image)
    assert score(patches).scored == 12
    assert [row["verdict"] for row in rows(report, "from latest where image = '03.jpg'")] == ["clear"]


def test_a_report_whose_storage_hangs_is_not_the_images_fault(
    job: ScoringJob, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NEVER_ON_DISK)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ReportWriteFailed, match="did not take a row within 3 s"):
        subprocess_scorer.score_in_subprocess(
            replace(job, settings=ScoreSettings.read(image_seconds=3.0)), shard
        )


@pytest.mark.timeout(60)
def test_a_process_that_does_not_get_to_its_image_is_not_waited_for(
    job: ScoringJob, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NEVER_UP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(subprocess_scorer, "_START_SECONDS", 1.0)

    assert len(pickle.dumps(job)) > 2**20  # more than a pipe takes from one who writes, before somebody reads
    with pytest.raises(ClusterError, match="took longer than 1 s before it had read"):
        subprocess_scorer.score_in_subprocess(job, shard)
