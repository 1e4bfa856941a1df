"""A night over three surveys, one of them broken: the others are done, and the state tells the truth."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crackmodel import open_report
from crackmodel.errors import NightIncomplete
from crackmodel.surveys.sample import SampleSurvey
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def root(tmp_path: Path, sample: SampleSurvey) -> Path:
    """Two surveys that can be scored, and one that is not there."""
    folder = tmp_path / "surveys"
    for name in ("bridge-07", "tunnel"):
        (folder / name).mkdir(parents=True)
    good = [file for file in sample.files if file not in sample.rejected]
    for number, file in enumerate(good):
        target = folder / ("bridge-07" if number % 2 else "tunnel") / Path(file).name
        shutil.copy(sample.directory / file, target)
    (folder / "tunnel" / "notes.jpg").write_text("no picture")
    (folder / "surveys.toml").write_text(
        """
        [[survey]]
        uri = "bridge-07"

        [[survey]]
        uri = "unplugged"
        owner = "North district"

        [[survey]]
        uri = "tunnel"
        """
    )
    return folder


def test_a_broken_survey_stops_no_other_and_the_run_fails_at_its_end(
    prefect: None, root: Path, tmp_path: Path
) -> None:
    from prefect.artifacts import Artifact

    from flows.nightly import nightly

    report = str(tmp_path / "report")
    state = nightly(str(root), report=report, workers=0, return_state=True)

    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, NightIncomplete)
    assert "1 of 3" in str(error)
    assert "unplugged (failed)" in str(error)
    first = {outcome.entry.name: outcome for outcome in error.night.outcomes}
    assert [outcome.state for outcome in first.values()] == ["done", "failed", "done"]
    assert first["tunnel"].result.rejected == 1
    cracks = sum(first[name].result.cracks for name in ("bridge-07", "tunnel"))
    assert sum(first[name].changes.new_cracks for name in ("bridge-07", "tunnel")) == cracks > 0
    page, table = Artifact.get("night"), Artifact.get("night-surveys")
    assert page
    assert table
    assert "unplugged" in str(page.data)
    assert "North district" in str(page.data)
    assert [row["state"] for row in json.loads(str(table.data))] == ["done", "failed", "done"]

    (root / "unplugged").mkdir()
    shutil.copy(next(iter((root / "bridge-07").iterdir())), root / "unplugged")
    night = nightly(str(root), report=report, workers=0)

    again = {outcome.entry.name: outcome for outcome in night.outcomes}
    assert [outcome.state for outcome in night.outcomes] == ["done"] * 3
    assert again["bridge-07"].result.skipped == again["bridge-07"].result.listed
    assert again["bridge-07"].changes.new_cracks == 0
    assert not again["bridge-07"].reasons
    assert again["unplugged"].result.scored == 1

    forced = nightly(str(root), report=report, workers=0, force=True)

    assert all(outcome.result and outcome.result.skipped == 0 for outcome in forced.outcomes)


def test_too_many_rejected_images_are_told_after_everything_is_done(
    prefect: None, root: Path, tmp_path: Path
) -> None:
    from flows.nightly import nightly

    (root / "surveys.toml").unlink()
    with pytest.raises(NightIncomplete, match=r"tunnel \(too many rejected\)") as caught:
        nightly(str(root), report=str(tmp_path / "report"), workers=0, max_rejected=0)

    assert [outcome.state for outcome in caught.value.night.outcomes] == ["done", "too many rejected"]


def test_what_is_given_for_a_night_counts_for_each_survey(prefect: None, root: Path, tmp_path: Path) -> None:
    from flows.nightly import nightly

    (root / "surveys.toml").unlink()
    report = str(tmp_path / "report")
    first = nightly(str(root), report=report, workers=0, limit=1)
    assert [outcome.result and outcome.result.scored for outcome in first.outcomes] == [1, 1]

    with open_report(report) as table:
        for survey, image in table.sql("select survey, image from report").to_pandas().to_numpy():
            (root / survey / image).unlink()
    nightly(str(root), report=report, workers=0, overlap=27, mark_missing=True)

    with open_report(report) as table:
        newest = table.sql("select survey, reject_code, tile_overlap from latest").to_pandas()
    gone = newest[newest.reject_code == "vanished"]
    assert sorted(gone.survey) == ["bridge-07", "tunnel"]
    cut = newest[newest.tile_overlap == 27]  # small pictures are not
    assert set(cut.survey) == {"bridge-07", "tunnel"}


def test_python_m_flows_nightly_prints_what_needs_a_person(
    prefect_server: PrefectServer, root: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "flows.nightly", root, "--report", tmp_path / "report", "--workers", "2",
        ],
        cwd=_CHECKOUT, capture_output=True, text=True, timeout=400, check=False,
        env=prefect_server.environment(),
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    assert "surveys need attention" in done.stdout
    assert "unplugged (North district)" in done.stdout
    assert "unplugged (failed)" in done.stderr
    assert "Traceback" not in done.stdout


_KILLED_AFTER_A_COMMIT = """
import os, signal
from crackmodel.scoring.run_events import ShardCommitted
from flows import prefect_progress
tell = prefect_progress.PrefectProgress.__call__
def tell_and_die(self, event):
    tell(self, event)
    if isinstance(event, ShardCommitted) and event.cracks:
        os.kill(os.getpid(), signal.SIGKILL)
prefect_progress.PrefectProgress.__call__ = tell_and_die
from flows.nightly import nightly
nightly({root!r}, report={report!r}, workers=0)
"""


def test_what_a_killed_night_found_is_told_by_the_next(prefect: None, root: Path, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    from flows.nightly import nightly

    (root / "surveys.toml").unlink()
    report = str(tmp_path / "report")
    server = str(PREFECT_API_URL.value())  # one of its own would outlive it
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_AFTER_A_COMMIT.format(root=str(root), report=report)],
        cwd=_CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PREFECT_API_URL": server, "HOME": str(tmp_path), "CRACKMODEL_SHARD_IMAGES": "2"},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert count_cracks(report) > 0

    night = nightly(str(root), report=report, workers=0)

    found = [outcome.changes.new_cracks for outcome in night.outcomes if outcome.changes]
    assert sum(found) == count_cracks(report)
    again = nightly(str(root), report=report, workers=0)
    assert [outcome.changes.new_cracks for outcome in again.outcomes if outcome.changes] == [0, 0]


def test_a_night_that_could_not_be_published_is_told_again(
    prefect: None, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import nightly as module

    (root / "surveys.toml").unlink()
    report = str(tmp_path / "report")
    with monkeypatch.context() as patch:
        patch.setattr(module, "night_rows", lambda night: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            module.nightly(str(root), report=report, workers=0)

    night = module.nightly(str(root), report=report, workers=0)

    assert sum(outcome.changes.new_cracks for outcome in night.outcomes if outcome.changes) == count_cracks(
        report
    )


def count_cracks(report: str) -> int:
    with open_report(report) as opened:
        return opened.sql("from latest where verdict = 'crack'").num_rows
