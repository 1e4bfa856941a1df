"""A run: every listed file has exactly one row, nothing is read twice, nothing stops at a bad image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from crackmodel.cli.main import app
from crackmodel.errors import (
    ModelCorrupt,
    ModelNotFound,
    ReportBusy,
    ReportIncompatible,
    ReportWriteFailed,
    SurveyError,
    UsageError,
)
from crackmodel.models.card.card import card_from_json
from crackmodel.models.registry.registry import PRETRAINED, Registry
from crackmodel.reports.reading.changes import compare_unannounced
from crackmodel.reports.reading.run_statistics import rows_by_run
from crackmodel.reports.run_names import run_time
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import publish_shard, write_shard
from crackmodel.scoring.run import score_survey
from crackmodel.scoring.run_events import ClockBehind, Event, RunPlanned, ShardCommitted
from crackmodel.storage.location import Location
from crackmodel.surveys.sample import SampleSurvey
from tests.reports.rows import build_rows, make_row
from tests.scoring.conftest import Score, rows


def test_every_listed_file_gets_exactly_one_row(survey: Path, report: Path, score: Score) -> None:
    result = score(survey)

    files = sorted(path.relative_to(survey).as_posix() for path in survey.rglob("*") if path.is_file())
    assert [row["image"] for row in rows(report)] == files
    assert result.listed == len(files) == result.scored + result.rejected
    assert result.scored == result.cracks + result.clear
    assert (result.skipped, result.postponed) == (0, 0)


def test_verdicts_of_the_drawn_survey_are_the_drawn_ones(
    sample: SampleSurvey, survey: Path, report: Path, score: Score
) -> None:
    score(survey)

    cracked = {row["image"] for row in rows(report) if row["verdict"] == "crack"}
    assert cracked == set(sample.cracked)


def test_a_row_holds_what_the_design_promises(survey: Path, report: Path, score: Score) -> None:
    result = score(survey)

    for row in rows(report, "from report where verdict <> 'rejected'"):
        count = row["tile_rows"] * row["tile_columns"]
        probabilities = np.array(row["tile_probabilities"], np.float32)
        over = probabilities >= np.float32(row["threshold"])
        assert len(probabilities) == count
        assert row["crack_probability"] == probabilities.max()
        assert row["crack_fraction"] == pytest.approx(over.mean(), abs=1e-6)
        assert row["verdict"] == ("crack" if over.any() else "clear")
        assert row["reject_code"] is None
        assert row["run_id"] == result.run_id
        assert row["survey"] == "bridge-07"
        assert len(row["sha256"]) == 64


def test_bad_files_become_rows_with_a_reason(
    sample: SampleSurvey, survey: Path, report: Path, score: Score
) -> None:
    result = score(survey)

    rejected = rows(report, "from rejected")
    assert {row["image"]: row["reject_code"] for row in rejected} == sample.rejected
    assert result.reject_codes == Counter(sample.rejected.values())
    for row in rejected:
        assert row["reject_stage"] in {"fetch", "identify", "decode"}
        assert row["reject_detail"]
        assert row["crack_probability"] is None


def test_a_picture_is_known_by_its_content_whatever_it_is_called(
    survey: Path, report: Path, score: Score
) -> None:
    shutil.copy(survey / "pier" / "panel.png", survey / "panel.jpg")
    shutil.copy(survey / "pier" / "panel.png", survey / "panel")
    score(survey)

    (probabilities,) = {
        row["crack_probability"] for row in rows(report, "from report where image like '%panel%'")
    }
    assert probabilities > 0.5


def test_a_large_file_is_no_image_after_its_first_bytes(patches: Path, report: Path, score: Score) -> None:
    (patches / "video.mp4").write_bytes(bytes(3 * 2**20))
    (patches / "large.jpg").write_bytes((patches / "00.jpg").read_bytes() + bytes(3 * 2**20))
    score(patches)

    by_image = {row["image"]: row for row in rows(report)}
    assert (by_image["video.mp4"]["reject_code"], by_image["video.mp4"]["sha256"]) == ("not_an_image", None)
    assert by_image["large.jpg"]["verdict"] == "clear"


def test_a_second_night_reads_no_image(survey: Path, score: Score) -> None:
    first = score(survey)
    for path in (path for path in survey.rglob("*") if path.is_file()):
        before = path.stat()
        path.write_bytes(b"\0" * before.st_size)  # whoever reads this, notices
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = score(survey)

    assert (second.scored, second.rejected, second.skipped) == (0, 0, first.listed)
    assert second.tiles == 0


def test_a_changed_file_is_scored_again_and_shows_in_latest(
    patches: Path, report: Path, score: Score
) -> None:
    score(patches)
    shutil.copy(patches / "01.jpg", patches / "00.jpg")
    os.utime(patches / "00.jpg", ns=(1, 1_700_000_000_123_456_000))
    again = score(patches)

    assert (again.scored, again.skipped) == (1, 11)
    assert len(rows(report, "from report where image = '00.jpg'")) == 2
    (newest,) = rows(report, "from latest where image = '00.jpg'")
    assert newest["run_id"] == again.run_id


def test_a_run_after_one_from_the_future_counts_and_says_so(
    patches: Path, report: Path, score: Score
) -> None:
    wrong = "20991231T235959Z-abcdef"
    score(patches)
    future = make_row("00.jpg", survey="patches", run_id=wrong, scored_at=run_time(wrong))
    table = ReportTable.open(report)
    file = write_shard(table.uri, "patches", wrong, 0, build_rows([future]))
    publish_shard(table.uri, file)
    table.commit([file], run_id=wrong)
    events: list[Event] = []
    again = score(patches, force=True, on_event=events.append)

    (behind,) = (event for event in events if isinstance(event, ClockBehind))
    assert behind.seconds > 70 * 365 * 24 * 3600
    assert wrong in behind.text
    assert {row["run_id"] for row in rows(report, "from latest")} == {again.run_id}
    assert score(patches).scored == 0


@pytest.mark.parametrize("changed", [{"tile": 128}, {"overlap": 32}])
def test_another_tiling_is_another_score(patches: Path, score: Score, changed: dict[str, int]) -> None:
    score(patches)

    assert score(patches, **changed).scored == 12
    assert score(patches, **changed).scored == 0


def test_a_version_with_another_threshold_scores_every_image_again(
    survey: Path, report: Path, score: Score, tmp_path: Path
) -> None:
    card = card_from_json((PRETRAINED / "card.json").read_bytes())
    models = Registry(tmp_path / "models")
    for threshold in (card.threshold, replace(card.threshold, value=1e-12)):
        with models.staging("walls") as staged:
            for name in ("model.tflite", "ood.npz"):
                shutil.copy(PRETRAINED / name, staged)
            models.publish("walls", staged, replace(card, threshold=threshold))
    for version in ("walls@v1", "walls@v2"):
        runs = [score(survey, models=str(tmp_path / "models"), model=version) for _ in range(2)]
        first, again = runs
        assert (first.skipped, again.scored, again.rejected) == (0, 0, 0)
    assert first.cracks == first.scored > 0

    by_model = (
        "select model, count(*) as n, count(distinct model_sha256) as files from {} group by all order by 1"
    )
    everything = [{"model": f"walls@v{n}", "n": first.listed, "files": 1} for n in (1, 2)]
    assert rows(report, by_model.format("report")) == everything
    assert rows(report, by_model.format("latest")) == everything[1:]
    table = ReportTable.open(report)
    told = rows_by_run(table, first.survey)
    del told[first.run_id]
    news = compare_unannounced(table, first.survey, told)
    assert (news.runs, news.risen) == ({first.run_id: first.listed}, 0)


def test_rejected_images_are_read_again_only_on_demand(survey: Path, score: Score) -> None:
    first = score(survey)

    assert score(survey).rejected == 0
    retried = score(survey, retry_rejected=True)
    assert (retried.scored, retried.rejected) == (0, first.rejected)


def test_retries_can_be_limited(survey: Path, score: Score) -> None:
    first = score(survey)
    retried = score(survey, retry_rejected=True, limit=1)

    assert (retried.rejected, retried.postponed) == (1, first.rejected - 1)
    assert retried.skipped == first.scored


def test_a_limit_postpones_and_the_next_run_goes_on(patches: Path, score: Score) -> None:
    first = score(patches, limit=5)
    second = score(patches)

    assert (first.scored, first.postponed, first.skipped) == (5, 7, 0)
    assert (second.scored, second.postponed, second.skipped) == (7, 0, 5)


def test_too_many_rejected_images_are_said_and_everything_is_scored(survey: Path, score: Score) -> None:
    result = score(survey, max_rejected=0)

    assert result.too_many_rejected
    assert result.scored > 0
    assert not score(survey, retry_rejected=True, max_rejected=result.rejected).too_many_rejected


def test_surveys_of_one_report_do_not_mix(patches: Path, survey: Path, report: Path, score: Score) -> None:
    score(patches)
    other = score(survey)

    assert other.skipped == 0
    assert score(patches).skipped == 12
    assert {row["survey"] for row in rows(report)} == {"patches", "bridge-07"}


def test_a_report_inside_the_survey_is_not_scored(patches: Path, score: Score) -> None:
    first = score(patches, report=patches / "results" / "report")
    second = score(patches, report=patches / "results" / "report")

    assert (first.listed, second.listed, second.skipped) == (12, 12, 12)


def test_models_inside_the_survey_are_not_scored(
    patches: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = patches / "models" / "walls" / "v1" / "evaluation"
    pictures.mkdir(parents=True)
    shutil.copy(patches / "01.jpg", pictures / "roc.jpg")
    monkeypatch.chdir(patches)
    assert score(Path()).listed == 13  # a folder of that name may hold photographs
    (pictures.parent / "card.json").touch()
    assert score(Path()).listed == 12


def test_addresses_are_parsed_once_however_many_shards_there_are(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = Location.parse

    def noted(place: str | Path | Location) -> Location:
        if not isinstance(place, Location):
            parsed.append(str(place))
        return parse(place)

    monkeypatch.setattr(Location, "parse", staticmethod(noted))
    assert score(patches, shard_images=3).scored == 12
    assert parsed.count(str(patches)) == 1
    assert parsed.count(str(report)) == 2  # for the table, and to leave it out of the listing


def test_a_survey_can_be_given_a_name(patches: Path, report: Path, score: Score) -> None:
    score(patches, name="deck-2")

    assert {row["survey"] for row in rows(report)} == {"deck-2"}
    assert score(patches, name="deck-3").skipped == 0


def test_two_surveys_of_one_name_do_not_share_a_report_by_accident(
    patches: Path, tmp_path: Path, score: Score
) -> None:
    score(patches)
    other = shutil.copytree(patches, tmp_path / "elsewhere" / "patches")

    with pytest.raises(ReportIncompatible, match="--name"):
        score(other)
    assert score(other, name="patches-2").scored == 12


def test_a_file_deleted_after_listing_is_rejected_as_vanished(
    patches: Path, report: Path, score: Score
) -> None:
    def delete_one(event: Event) -> None:
        if isinstance(event, RunPlanned):
            (patches / "03.jpg").unlink()

    result = score(patches, on_event=delete_one)

    assert result.reject_codes == {"vanished": 1}
    assert (result.scored, rows(report, "from rejected")[0]["image"]) == (11, "03.jpg")


def test_a_file_that_comes_back_is_scored_by_the_next_run(
    patches: Path, score: Score, tmp_path: Path
) -> None:
    def take_one_away(event: Event) -> None:
        if isinstance(event, RunPlanned):
            (patches / "03.jpg").rename(tmp_path / "03.jpg")

    score(patches, on_event=take_one_away)
    (tmp_path / "03.jpg").rename(patches / "03.jpg")
    second = score(patches)

    assert (second.scored, second.rejected, second.skipped) == (1, 0, 11)


@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_a_survey_that_goes_away_stops_the_run_and_rejects_nothing(
    patches: Path, report: Path, score: Score, tmp_path: Path, mount_point_stays: bool
) -> None:
    def unmount(event: Event) -> None:
        if isinstance(event, RunPlanned):
            patches.rename(tmp_path / "elsewhere")
            if mount_point_stays:
                patches.mkdir()

    with pytest.raises(SurveyError, match="went away"):
        score(patches, on_event=unmount)
    assert rows(report) == []
    if mount_point_stays:
        patches.rmdir()
    (tmp_path / "elsewhere").rename(patches)
    assert score(patches).scored == 12


def test_a_file_replaced_after_listing_is_rejected_now_and_scored_next_time(
    patches: Path, score: Score
) -> None:
    def replace_one(event: Event) -> None:
        if isinstance(event, RunPlanned):
            with (patches / "03.jpg").open("ab") as file:
                file.write(b"\0" * 7)

    assert score(patches, on_event=replace_one).reject_codes == {"changed": 1}
    assert score(patches).scored == 1


def test_a_moved_file_counts_once(patches: Path, report: Path, score: Score) -> None:
    score(patches)
    (patches / "archive").mkdir()
    (patches / "03.jpg").rename(patches / "archive" / "deck.jpg")
    moved = score(patches)
    again = score(patches)

    assert (moved.listed, moved.scored, moved.skipped, moved.moved, moved.missing) == (12, 1, 11, 1, 0)
    assert (again.scored, again.skipped, again.moved) == (0, 12, 0)
    latest = {row["image"]: row for row in rows(report, "from latest")}
    assert len(latest) == 13
    assert latest["archive/deck.jpg"]["verdict"] == "clear"
    assert latest["03.jpg"]["reject_code"] == "moved"
    assert "archive/deck.jpg" in latest["03.jpg"]["reject_detail"]
    (scored, _) = rows(report, "from report where image = '03.jpg' order by scored_at")
    assert latest["archive/deck.jpg"]["sha256"] == scored["sha256"]


def test_a_folder_that_is_renamed_moves_in_files_of_bounded_size(
    patches: Path, report: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crackmodel.scoring.driver.departures._ROWS_PER_FILE", 5)
    score(patches, compact_after=0)
    images = sorted(patches.iterdir())
    (patches / "deck").mkdir()
    for image in images:
        image.rename(patches / "deck" / image.name)
    moved = score(patches, compact_after=0)
    again = score(patches, compact_after=0)

    assert (moved.scored, moved.moved, again.scored, again.moved) == (12, 12, 0, 0)
    latest = {row["image"]: row["reject_code"] for row in rows(report, "from latest")}
    assert latest == {image.name: "moved" for image in images} | {
        f"deck/{image.name}": None for image in images
    }
    sizes = [
        len(departed)
        for file in report.rglob("*.parquet")
        if len(departed := pd.read_parquet(file, filters=[("reject_code", "==", "moved")]))
    ]
    assert sorted(sizes) == [2, 5, 5]


def test_summary_and_runs_count_a_renamed_folder_once(patches: Path, report: Path, score: Score) -> None:
    (patches / "span1").mkdir()
    for image in list(patches.glob("*.jpg")):
        image.rename(patches / "span1" / image.name)
    score(patches)
    (patches / "span1").rename(patches / "span-1")
    second = score(patches)

    assert (second.scored, second.rejected, second.moved) == (12, 0, 12)
    counts = {"images": 12, "cracks": 0, "clear": 12, "rejected": 0}
    summary = CliRunner().invoke(app, ["report", "summary", "--report", str(report), "--json"])
    (told,) = json.loads(summary.stdout)["surveys"]
    assert {name: told[name] for name in (*counts, "departed")} == counts | {"departed": 12}
    runs = rows(report, f"select {', '.join(counts)}, departed from runs order by started_at")
    assert runs == [counts | {"departed": 0}, counts | {"departed": 12}]
    assert rows(report, "from rejected") == []


def test_a_deleted_image_has_not_moved_to_a_name_that_its_content_once_had(
    patches: Path, report: Path, score: Score
) -> None:
    score(patches)
    (patches / "03.jpg").rename(patches / "deck.jpg")
    shutil.copyfile(patches / "04.jpg", patches / "03.jpg")
    score(patches)
    (patches / "deck.jpg").unlink()
    deleted = score(patches)

    assert (deleted.moved, deleted.missing) == (0, 1)
    assert {row["image"]: row["verdict"] for row in rows(report, "from latest")}["deck.jpg"] == "clear"


def test_a_file_that_moves_back_is_scored_again(patches: Path, report: Path, score: Score) -> None:
    score(patches)
    (patches / "03.jpg").rename(patches / "13.jpg")
    score(patches)
    (patches / "13.jpg").rename(patches / "03.jpg")
    back = score(patches)

    assert (back.scored, back.moved) == (1, 1)
    assert {row["image"]: row["verdict"] for row in rows(report, "from latest")}["03.jpg"] == "clear"


def test_missing_images_stay_until_they_are_to_be_marked(patches: Path, report: Path, score: Score) -> None:
    score(patches)
    (patches / "03.jpg").unlink()
    kept = score(patches)
    before = rows(report, "from latest where image = '03.jpg'")
    marked = score(patches, mark_missing=True)
    again = score(patches, mark_missing=True)

    assert (kept.missing, marked.missing, again.missing) == (1, 1, 0)
    assert before[0]["verdict"] == "clear"
    (after,) = rows(report, "from latest where image = '03.jpg'")
    assert (after["reject_code"], after["reject_stage"], after["run_id"]) == (
        "vanished",
        "list",
        marked.run_id,
    )
    assert len(rows(report)) == 13


def test_an_image_that_another_model_missed_is_scored_when_it_is_back(
    patches: Path, report: Path, score: Score, tmp_path: Path
) -> None:
    score(patches)
    (patches / "03.jpg").rename(tmp_path / "03.jpg")
    score(patches, tile=128, mark_missing=True)  # another tile size is as another model
    (tmp_path / "03.jpg").rename(patches / "03.jpg")
    back, after = score(patches), score(patches)

    assert (back.scored, back.skipped, after.scored) == (1, 11, 0)
    assert {row["image"]: row["verdict"] for row in rows(report, "from latest")}["03.jpg"] == "clear"


def test_only_files_modified_since_then_are_scored(patches: Path, report: Path, score: Score) -> None:
    for number, path in enumerate(sorted(patches.iterdir())):
        os.utime(path, (number * 86_400, number * 86_400))  # the 1st to the 12th of January 1970
    some = score(patches, since="1970-01-09T00:00:00Z")
    rest = score(patches)

    assert (some.listed, some.scored, some.postponed) == (12, 4, 8)
    assert (rest.scored, rest.skipped) == (8, 4)
    assert {row["image"] for row in rows(report, "from report") if row["run_id"] == some.run_id} == {
        "08.jpg", "09.jpg", "10.jpg", "11.jpg",
    }  # fmt: skip


def test_force_scores_again_and_the_newest_row_counts(patches: Path, report: Path, score: Score) -> None:
    score(patches)
    forced = score(patches, force=True)

    assert (forced.scored, forced.skipped) == (12, 0)
    assert len(rows(report)) == 24
    assert {row["run_id"] for row in rows(report, "from latest")} == {forced.run_id}


def test_threads_score_at_once_and_disturb_nobody(patches: Path, report: Path, score: Score) -> None:
    surveys = [shutil.copytree(patches, patches.parent / f"survey-{number}") for number in range(4)]
    with ThreadPoolExecutor(len(surveys)) as threads:
        results = list(threads.map(score, surveys))

    assert [(result.scored, result.rejected) for result in results] == [(12, 0)] * 4
    probabilities: dict[str, set[float]] = {}
    for row in rows(report):
        probabilities.setdefault(row["image"], set()).add(row["crack_probability"])
    assert len(probabilities) == 12
    assert all(len(found) == 1 for found in probabilities.values())


def test_events_tell_the_whole_run(patches: Path, score: Score) -> None:
    events: list[Event] = []
    result = score(patches, shard_images=5, on_event=events.append)

    planned, *commits = events
    assert isinstance(planned, RunPlanned)
    assert (planned.listed, planned.skipped, planned.pending) == (12, 0, 12)
    shards = [event for event in commits if isinstance(event, ShardCommitted)]
    assert len(shards) == len(commits) >= 3
    assert shards[-1].done == sum(shard.images for shard in shards) == 12
    assert sum(shard.tiles for shard in shards) == result.tiles == 12


def test_a_run_that_dies_between_commits_is_finished_by_the_next(
    patches: Path, report: Path, score: Score
) -> None:
    def die(event: Event) -> None:
        if isinstance(event, ShardCommitted):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(patches, shard_images=5, on_event=die)
    finished = score(patches)

    assert finished.skipped > 0
    assert finished.skipped + finished.scored == 12
    assert len(rows(report)) == 12


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    patches: Path, full_disk: Path, score: Score
) -> None:
    ballast, report = full_disk / "ballast", full_disk / "report"

    def fill(event: Event) -> None:
        if isinstance(event, ShardCommitted) and not ballast.exists():
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))

    with pytest.raises(ReportWriteFailed, match="disk is full"):
        score(patches, report=report, shard_images=5, on_event=fill)
    ballast.unlink()
    finished = score(patches, report=report)

    assert 0 < finished.skipped < 12
    assert finished.skipped + finished.scored == 12
    assert sorted(pd.read_parquet(report)["image"]) == sorted(path.name for path in patches.iterdir())


def test_files_of_a_dead_run_do_not_count(patches: Path, report: Path, score: Score) -> None:
    score(patches)
    folder = report / "survey=patches"
    committed = set(folder.iterdir())
    shutil.copy(min(committed), folder / "part-20260101T000000Z-00dead-000000-00000000.parquet")
    shutil.copy(min(committed), folder / ".part-20260101T000000Z-00dead-000001-00000000.parquet.tmp")

    score(patches)

    assert set(folder.iterdir()) == committed


def test_two_runs_of_one_survey_exclude_each_other(patches: Path, report: Path, score: Score) -> None:
    score(patches)

    with ReportTable.open(report).lock("patches"), pytest.raises(ReportBusy):
        score(patches)


class TestBadInputStopsBeforeAnythingIsWritten:
    def test_missing_survey(self, tmp_path: Path, report: Path, score: Score) -> None:
        with pytest.raises(SurveyError, match="no-such-place"):
            score(tmp_path / "no-such-place")
        assert not report.exists()

    def test_empty_survey(self, tmp_path: Path, report: Path, score: Score) -> None:
        (tmp_path / "void").mkdir()

        with pytest.raises(SurveyError, match="void"):
            score(tmp_path / "void")
        assert not report.exists()

    def test_unknown_model(self, patches: Path, report: Path, score: Score) -> None:
        with pytest.raises(ModelNotFound, match="walls"):
            score(patches, model="walls")
        assert not report.exists()

    def test_engine_that_the_model_has_no_file_for(self, patches: Path, report: Path, score: Score) -> None:
        with pytest.raises(ModelNotFound, match="--engine litert"):
            score(patches, engine="tensorflow")
        assert not report.exists()

    def test_model_with_a_flipped_byte(
        self, patches: Path, report: Path, score: Score, tmp_path: Path
    ) -> None:
        builtin = Registry(tmp_path / "models").resolve("builtin")
        broken = shutil.copytree(builtin.path, tmp_path / "models" / "walls" / "v1")
        content = bytearray((broken / "model.tflite").read_bytes())
        content[len(content) // 2] ^= 1
        (broken / "model.tflite").write_bytes(content)

        with pytest.raises(ModelCorrupt, match=r"model\.tflite"):
            score(patches, model="walls@v1", models=tmp_path / "models")
        assert not report.exists()

    def test_report_path_that_is_a_file(self, patches: Path, report: Path, score: Score) -> None:
        report.write_text("my notes")

        with pytest.raises(ReportIncompatible):
            score(patches)
        assert report.read_text() == "my notes"

    @pytest.mark.parametrize("wrong", [{"tile": 3}, {"engine": "onnx"}, {"colour": "red"}])
    def test_senseless_setting(
        self, patches: Path, report: Path, score: Score, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError):
            score(patches, **wrong)
        assert not report.exists()


@pytest.mark.integration
def test_ray_gives_the_same_rows_as_this_process(
    embedded_ray: None, survey: Path, tmp_path: Path, score: Score
) -> None:
    inline = score(survey, report=tmp_path / "inline")
    on_ray = score_survey(survey, report=tmp_path / "ray", workers=2)

    query = """select * exclude (run_id, scored_at, ood_score) from report order by image"""
    assert rows(tmp_path / "ray", query) == rows(tmp_path / "inline", query)
    # Distances are measured many together, and how many that is decides the order of their sums.
    query = "select ood_score from report where ood_score is not null order by image"
    distances = [[row["ood_score"] for row in rows(tmp_path / name, query)] for name in ("ray", "inline")]
    assert len(distances[0]) == inline.scored > 0
    assert distances[0] == pytest.approx(distances[1], rel=1e-4)
    assert (on_ray.scored, on_ray.rejected) == (inline.scored, inline.rejected)


@pytest.mark.integration
def test_an_error_of_a_worker_reaches_the_caller_as_it_is(
    embedded_ray: None, patches: Path, report: Path
) -> None:
    def block(event: Event) -> None:
        if isinstance(event, RunPlanned):
            (report / "survey=patches").write_text("in the way")

    with pytest.raises(ReportWriteFailed, match="survey=patches"):
        score_survey(patches, report=report, workers=2, on_event=block)


@pytest.mark.integration
def test_ray_starts_and_ends_with_the_run(patches: Path, report: Path) -> None:
    """In a process of its own, because only the first Ray of a process can start."""
    code = f"""
import ray, crackmodel
result = crackmodel.score_survey({str(patches)!r}, report={str(report)!r}, workers=2)
assert result.scored == 12, result
assert not ray.is_initialized()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
