"""Faults that really happen to real processes: every image has one row in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from crackmodel.scoring.run_events import Event, RunPlanned
from tests.prefect_server import until
from tests.scoring.conftest import Score, rows, until_first_commit

_CRACKMODEL = Path(sys.executable).with_name("crackmodel")

_FATAL_HASHLIB = """
import hashlib, os, signal, time
real = hashlib.sha256
def sha256(data=b"", **options):
    if b"KILLS ITS WORKER" in bytes(data):
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"HANGS ITS WORKER" in bytes(data):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        while True:
            pass
    return real(data, **options)
hashlib.sha256 = sha256
"""
"""A `sitecustomize` that makes reading some images fatal, as a fault in a decoder would."""


@pytest.mark.integration
def test_a_worker_that_somebody_kills_loses_and_doubles_no_image(
    many: Path, report: Path, slowly: dict[str, str]
) -> None:
    run = subprocess.Popen(
        [_CRACKMODEL, "score", many, "--report", report, "--workers", "2", "--limit", "60", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | slowly | {"CRACKMODEL_SHARD_IMAGES": "15"},
    )  # fmt: skip
    until(lambda: run.poll() is not None or _scoring_workers(run.pid), seconds=120, every=0.02)
    os.kill(_scoring_workers(run.pid)[0], signal.SIGKILL)
    result, errors = run.communicate(timeout=180)

    assert run.returncode == 0, errors
    assert json.loads(result)["scored"] == 60
    assert len({row["image"] for row in rows(report)}) == len(rows(report)) == 60
    assert len(pd.read_parquet(report)) == 60


def _scoring_workers(driver: int) -> list[int]:
    """Find the processes that score for a driver: Ray names each by its task, and its child starts them."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(") ", 1)[1].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:
            continue
    return [
        pid
        for pid, name in names.items()
        if name.startswith(b"ray::_score_shard_task") and parents.get(parents[pid]) == driver
    ]


@pytest.mark.integration
def test_images_that_kill_or_hang_their_workers_are_found(
    patches: Path, report: Path, tmp_path: Path
) -> None:
    for image, fate in {"05.jpg": b"KILLS ITS WORKER", "08.jpg": b"HANGS ITS WORKER"}.items():
        (patches / image).write_bytes((patches / image).read_bytes() + fate)
    (tmp_path / "sitecustomize.py").write_text(_FATAL_HASHLIB)
    done = subprocess.run(
        [_CRACKMODEL, "score", patches, "--report", report, "--workers", "2", "--json"],
        capture_output=True, text=True, timeout=400, check=False,
        env=os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
            "CRACKMODEL_SHARD_IMAGES": "12",
            "CRACKMODEL_IMAGE_SECONDS": "3",
        },
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "died or hung" in done.stderr
    result = json.loads(done.stdout)
    assert result["scored"] == 10
    assert result["reject_codes"] == {"timed_out": 1, "worker_crashed": 1}
    found = {row["image"]: row for row in rows(report)}
    assert len(found) == len(rows(report)) == 12
    assert found["05.jpg"]["reject_code"] == "worker_crashed"
    assert "SIGSEGV" in found["05.jpg"]["reject_detail"]
    assert found["08.jpg"]["reject_code"] == "timed_out"
    assert "longer than 3 s" in found["08.jpg"]["reject_detail"]
    assert {row["verdict"] for row in found.values()} == {"clear", "rejected"}


@pytest.mark.integration
def test_a_survey_of_nothing_but_images_that_kill_their_workers_ends(
    patches: Path, report: Path, tmp_path: Path
) -> None:
    for image in patches.iterdir():
        if image.name < "03.jpg":
            image.write_bytes(image.read_bytes() + b"KILLS ITS WORKER")
        else:
            image.unlink()
    (tmp_path / "sitecustomize.py").write_text(_FATAL_HASHLIB)
    done = subprocess.run(
        [_CRACKMODEL, "score", patches, "--report", report, "--workers", "2", "--json"],
        capture_output=True, text=True, timeout=400, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reject_codes"] == {"worker_crashed": 3}
    assert [row["image"] for row in rows(report)] == ["00.jpg", "01.jpg", "02.jpg"]


@pytest.mark.integration
def test_a_survey_of_nothing_but_images_that_wait_for_storage_ends_and_is_read_by_the_next_run(
    patches: Path, report: Path, score: Score, tmp_path: Path
) -> None:
    shutil.copytree(patches, kept := tmp_path / "kept")
    for image in patches.glob("[01][1-9].jpg"):
        image.unlink()

    def stall(event: Event) -> None:
        if isinstance(event, RunPlanned):
            for image in patches.iterdir():
                image.unlink()
                os.mkfifo(image)

    stalled = score(patches, workers=2, image_seconds=1.0, on_event=stall)
    assert (stalled.scored, stalled.reject_codes) == (0, {"unreadable": 2})
    for image in patches.iterdir():
        image.unlink()
        shutil.copy2(kept / image.name, image)
    assert score(patches).scored == 2


@pytest.mark.integration
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_is_finished_by_the_next(
    many: Path, report: Path, score: Score, how: signal.Signals, workers: str
) -> None:
    run = subprocess.Popen(
        [_CRACKMODEL, "score", many, "--report", report, "--workers", workers],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Not measured: a signal inside of coverage's own lock would make the process wait for ever.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        | {"CRACKMODEL_SHARD_IMAGES": "5"},
        # Whoever runs the tests in the background may have them ignore Ctrl-C, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    until_first_commit(report, run)
    run.send_signal(how)
    _, errors = run.communicate(timeout=120)

    if how != signal.SIGKILL:
        assert run.returncode == 1
        assert "run the same command again" in errors
        assert "Traceback" not in errors
    finished = score(many)
    assert finished.skipped > 0
    assert finished.skipped + finished.scored == 300
    assert Counter(row["image"] for row in rows(report)) == Counter(path.name for path in many.iterdir())
    assert len(pd.read_parquet(report)) == 300


@pytest.mark.integration
def test_a_driver_killed_at_any_storage_operation_loses_and_doubles_nothing(
    patches: Path, tmp_path: Path
) -> None:
    survey = tmp_path / "three"
    survey.mkdir()
    for name in ("00.jpg", "01.jpg", "02.jpg"):
        shutil.copy(patches / name, survey / name)
    done = subprocess.run(
        [sys.executable, "-m", "tests.scoring.crash_points", survey],
        stdout=subprocess.PIPE, text=True, timeout=500, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.curdir, *sys.path])},
    )  # fmt: skip

    crashes = [json.loads(line) for line in done.stdout.splitlines()]
    steps = Counter(crash["step"] for crash in crashes)
    assert {"after create", "before open_output_stream", "in piece 1 of a file", "after fsync"} <= set(steps)
    assert steps["before replace"] == 2  # the survey's notes
    assert steps["before move"] == 4  # three shards and what they are compacted to
    assert steps["before vacuum"] == 2  # one asks, one deletes
    assert steps["before create_write_transaction"] == steps["after create_write_transaction"] >= 2
    for crash in crashes:
        assert crash["code"] == -signal.SIGKILL, crash
        assert crash["images"] == ["00.jpg", "01.jpg", "02.jpg"], crash
        assert (crash["skipped"], crash["scored"]) == (crash["committed"], 3 - crash["committed"]), crash
        assert not crash["left"], crash
    assert {crash["committed"] for crash in crashes} >= {0, 1, 3}


def test_a_reader_that_has_seen_enough_is_no_failure(many: Path, report: Path, score: Score) -> None:
    score(many)
    query = subprocess.Popen(
        [
            _CRACKMODEL, "query", "from report", "--report", report,
            "--format", "json",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert query.stdout
    assert query.stderr
    query.stdout.read(1)
    query.stdout.close()
    errors = query.stderr.read()

    assert query.wait(timeout=60) == 0
    assert errors == b""
