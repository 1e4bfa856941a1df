"""A night with everything in a bucket: photographs, models and the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from pyarrow import fs

from crackmodel.errors import CrackmodelError, ModelError, ReportError, ReportIncompatible, SurveyError
from crackmodel.models.card.card import card_from_json
from crackmodel.models.registry.registry import PRETRAINED, Registry
from crackmodel.reports.compatibility import is_vacant
from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.reading.query import open_report
from crackmodel.reports.report_location import locate_report
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.run import RunResult, score_survey
from crackmodel.scoring.run_events import Event, RunPlanned
from crackmodel.scoring.worker import rows as scoring_rows
from crackmodel.storage import object_stores
from crackmodel.storage.object_stores import open_store
from tests.object_store import BUCKET, KEY, SECRET, ObjectStore

Upload = Callable[[Path, str], str]
REPORT = f"s3://{BUCKET}/night/report"


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from crackmodel.cli.main import app; app()", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ),
        check=False,
    )


def score(survey: str, **settings: Any) -> RunResult:
    return score_survey(survey, **{"report": REPORT, "workers": 0, **settings})


def rows(query: str = "select * from report order by image") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_report(REPORT).sql(query).to_pylist()
    return found


def everything_under(uri: str) -> bytes:
    store = open_store(uri)
    found = store.filesystem.get_file_info(fs.FileSelector(store.path, recursive=True))
    files = [info.path for info in found if info.type == fs.FileType.File]
    return b"".join(store.filesystem.open_input_file(path).read() for path in files)


@pytest.fixture
def models(upload: Upload, tmp_path: Path) -> str:
    local = Registry(tmp_path / "models")
    with local.staging("walls") as staged:
        for name in ("model.tflite", "ood.npz"):
            shutil.copy(PRETRAINED / name, staged)
        local.publish("walls", staged, card_from_json((PRETRAINED / "card.json").read_bytes()))
    return upload(tmp_path / "models", "models")


@pytest.mark.integration
def test_a_night_in_a_bucket(
    object_store: ObjectStore, upload: Upload, models: str, sample_survey: Path, tmp_path: Path
) -> None:
    survey = upload(sample_survey, "2026/bridge-07")
    run = run_command(
        "score", survey, "--report", REPORT, "--models", models, "--model", "walls", "--workers=2", "--json"
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    first = json.loads(run.stdout)
    local = score_survey(sample_survey, report=tmp_path / "report", workers=0)
    assert {name: first[name] for name in ("listed", "scored", "cracks", "rejected", "reject_codes")} == {
        "listed": local.listed,
        "scored": local.scored,
        "cracks": local.cracks,
        "rejected": local.rejected,
        "reject_codes": local.reject_codes,
    }
    assert (first["model"], first["uri"]) == ("walls@v1", survey)

    object_store.reads.clear()
    again = score(survey, models=models, model="walls")
    assert (again.skipped, again.scored) == (first["listed"], 0)
    assert [path for path in object_store.reads if path.startswith(f"/{BUCKET}/2026/")] == []

    asked = run_command("query", "select count(*) as n from latest", "--report", REPORT, "--format", "json")
    assert json.loads(asked.stdout) == [{"n": first["listed"]}], asked.stderr
    written = everything_under(REPORT) + (run.stdout + run.stderr + asked.stderr).encode()
    assert KEY.encode() not in written
    assert SECRET.encode() not in written


def test_an_object_deleted_after_the_listing_is_a_rejected_row(upload: Upload, patches: Path) -> None:
    survey = upload(patches, "patches")
    store = open_store(survey)

    def delete_one(event: Event) -> None:
        if isinstance(event, RunPlanned):
            store.filesystem.delete_file(f"{store.path}/03.jpg")

    result = score(survey, on_event=delete_one)
    assert (result.listed, result.scored, result.reject_codes) == (12, 11, {"vanished": 1})
    assert len(rows()) == 12


@pytest.mark.usefixtures("object_store")
def test_several_surveys_write_one_report_at_the_same_time(upload: Upload, patches: Path) -> None:
    surveys = [upload(patches, f"2026/span-{number}") for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        runs = pool.map(lambda uri: run_command("score", uri, "--report", REPORT, "--workers=0"), surveys)
        assert [(run.returncode, run.stderr.count("error")) for run in runs] == [(0, 0)] * 3
    counted = rows("select survey, count(*) as n, count(distinct image) as images from report group by all")
    assert sorted(tuple(row.values()) for row in counted) == [(f"span-{n}", 12, 12) for n in range(3)]


def test_a_busy_store_costs_time_and_no_image(
    object_store: ObjectStore, upload: Upload, patches: Path
) -> None:
    survey = upload(patches, "patches")
    hits: set[tuple[str, str]] = set()

    def first_time(method: str, path: str) -> bool:
        new = (method, path) not in hits
        hits.add((method, path))
        return new and method in ("PUT", "DELETE")  # reading: see test_stores and test_fetching

    object_store.is_hit, object_store.busy = first_time, 10_000
    result = score(survey)
    assert (result.scored, result.rejected) == (12, 0)
    assert len(rows()) == 12
    assert {method for method, _ in hits} >= {"PUT", "DELETE"}
    assert object_store.refused >= 5


def test_a_driver_that_dies_after_any_change_of_the_bucket_loses_and_doubles_nothing(
    object_store: ObjectStore, patches: Path, tmp_path: Path
) -> None:
    """Of a client that died stays what the store did for it, as of one that is refused everything else."""
    survey, images = tmp_path / "two", ["00.jpg", "01.jpg"]
    survey.mkdir()
    for name in images:
        shutil.copy(patches / name, survey / name)

    def run() -> RunResult:
        return score(str(survey), shard_images=1, compact_after=2)

    run()
    committed = []
    for number in range(object_store.changes):
        object_store.forget()
        object_store.last_change = number
        with suppress(CrackmodelError):
            run()
        object_store.last_change = None
        place = locate_report(REPORT)
        committed.append(0 if is_vacant(place) else len(rows()))
        rerun = run()

        folder = ds.dataset(place.root, filesystem=place.filesystem, partitioning="hive")
        plain = sorted(folder.to_table(columns=["image"])["image"].to_pylist())
        assert plain == [row["image"] for row in rows()] == images, number
        assert (rerun.skipped, rerun.scored) == (committed[-1], 2 - committed[-1]), number
        checked = check_report(ReportTable.open(REPORT))
        assert (checked.findings, checked.uncommitted) == ((), 0), number
    assert committed == sorted(committed)
    assert set(committed) == {0, 1, 2}
    assert len(committed) >= 15  # the log, the note, two shards and what they are compacted to


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clients that ask once, and wait for three seconds, where a night's would wait for half a minute."""
    monkeypatch.setattr(object_stores, "_ATTEMPTS", 1)
    monkeypatch.setattr(
        object_stores, "_DELTA_RETRIES", {"max_retries": "0", "retry_timeout": "1s", "timeout": "3s"}
    )
    object_stores._s3.cache_clear()
    yield
    object_stores._s3.cache_clear()


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("impatient")
def test_a_survey_whose_store_stops_answering_ends_the_run_and_rejects_nothing(
    object_store: ObjectStore, upload: Upload, patches: Path, tmp_path: Path
) -> None:
    survey = upload(patches, "patches")

    def stall(event: Event) -> None:
        if isinstance(event, RunPlanned):
            object_store.latency = 600

    with pytest.raises(SurveyError, match=r"cannot read .*patches any more: nothing answers there"):
        score(survey, report=tmp_path / "report", on_event=stall)
    object_store.latency = 0

    again = score(survey, report=tmp_path / "report")
    assert (again.scored, again.rejected, again.skipped) == (12, 0, 0)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("step", ["write_shard", "_append"])
def test_a_report_whose_store_stops_answering_ends_the_run_and_the_next_one_goes_on(
    object_store: ObjectStore, patches: Path, step: str
) -> None:
    """It stops when the second shard is written, or while that is committed."""
    owner = scoring_rows if step == "write_shard" else ReportTable
    real, asked = getattr(owner, step), Counter[str]()

    def stalling(*given: Any, **options: Any) -> Any:
        asked[step] += 1
        if asked[step] == 2:
            object_store.latency = 600
        return real(*given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, stalling)
        with pytest.raises(ReportError, match="could not be written: nothing answers there"):
            score(str(patches), shard_images=3)
    object_store.latency = 0

    assert len(rows()) == 3
    again = score(str(patches), shard_images=3)
    assert (again.skipped, again.scored, again.rejected) == (3, 9, 0)
    assert [row["image"] for row in rows()] == sorted(path.name for path in patches.iterdir())
    assert check_report(ReportTable.open(REPORT)).findings == ()


@pytest.mark.parametrize(
    ("wrong", "kind", "explained"),
    [
        ({"survey": "s3://nowhere/deck"}, SurveyError, r"no s3://nowhere/deck\. Check the bucket's name"),
        ({"report": "s3://nowhere/report"}, ReportError, r"no such bucket\. Check the bucket's name"),
        ({"AWS_ACCESS_KEY_ID": "SOMEBODY"}, SurveyError, r"Check that the credentials are the right ones"),
        (
            {"AWS_ACCESS_KEY_ID": "SOMEBODY", "survey": "patches"},
            ReportIncompatible,
            r"report cannot be read: access was denied\. Check that the credentials",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "SOMEBODY", "models": f"s3://{BUCKET}/models", "model": "walls"},
            ModelError,
            "models/walls cannot be read: access was denied",
        ),
    ],
)
def test_what_is_wrong_with_a_store_is_explained(
    upload: Upload,
    patches: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, str],
    kind: type[CrackmodelError],
    explained: str,
) -> None:
    survey = upload(patches, "patches")
    settings = {name: value for name, value in wrong.items() if name.islower()}
    if settings.get("survey") == "patches":
        settings["survey"] = str(patches)
    for name in wrong.keys() - settings.keys():
        monkeypatch.setenv(name, wrong[name])
    with pytest.raises(kind, match=explained) as failed:
        score(**{"survey": survey, **settings})
    assert "AWS Error" not in str(failed.value)
    assert SECRET not in str(failed.value)


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("object_store")
def test_a_store_that_is_not_there_ends_a_run_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    run = run_command("score", f"s3://{BUCKET}/deck", "--report", REPORT)
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        f"error: s3://{BUCKET}/deck cannot be listed: nothing answers there.",
        "       Check the network and AWS_ENDPOINT_URL, such as https://s3.example.com or http://127.0.0.1:9000.",
    ]
