"""What a night tells: everything that no night before has told, and nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from crackmodel.errors import TooManyRejected
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.maintenance.integrity import check_report
from crackmodel.reports.maintenance.orphan_files import delete_orphans
from crackmodel.reports.survey_notes import read_announced
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.nightly import NightlyRun, SurveyOutcome, compare_outcome, mark_night_announced
from crackmodel.scoring.nightly_summary import markdown_night, night_rows, plain_night
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run_events import Event, ShardCommitted
from crackmodel.scoring.run_summary import plain_summary
from crackmodel.storage.location import Location
from crackmodel.surveys.discovery import RosterEntry
from tests.scoring.conftest import Score, rows


class Stopped(Exception):
    """What ends a run in its middle."""


def stop(event: Event) -> None:
    """End a run after its first commit."""
    if isinstance(event, ShardCommitted):
        raise Stopped


def compare(result: RunResult) -> SurveyOutcome:
    return compare_outcome(RosterEntry(result.survey, Location.parse(result.uri)), result, rise=0.2)


def tell(*outcomes: SurveyOutcome) -> None:
    """End a night that was published."""
    mark_night_announced(NightlyRun("surveys", outcomes))


def new_cracks(outcome: SurveyOutcome) -> int:
    assert outcome.changes
    return outcome.changes.new_cracks


def cracks(report: Path) -> int:
    return len(rows(report, "select image from latest where verdict = 'crack'"))


def test_what_an_interrupted_night_found_is_told_by_the_next(
    survey: Path, report: Path, score: Score
) -> None:
    for _ in range(2):
        with pytest.raises(Stopped):
            score(survey, shard_images=3, on_event=stop)
    assert cracks(report) > 0

    outcome = compare(score(survey))

    assert new_cracks(outcome) == cracks(report)
    assert outcome.headline.endswith("(with 2 earlier runs not announced yet)")
    assert "- with 2 earlier runs not announced yet" in markdown_night(NightlyRun("", (outcome,)))
    tell(outcome)
    again = compare(score(survey))
    assert (new_cracks(again), again.reasons) == (0, ())
    assert "earlier" not in again.headline


def test_a_night_that_was_not_published_is_told_again(survey: Path, report: Path, score: Score) -> None:
    lost = compare(score(survey))
    repeated = compare(score(survey))

    assert repeated.result
    assert repeated.result.scored == 0
    assert new_cracks(repeated) == new_cracks(lost) == cracks(report) > 0
    assert "images with new cracks" in plain_night(NightlyRun("", (repeated,)))


def test_a_run_by_hand_between_two_nights_is_told(survey: Path, report: Path, score: Score) -> None:
    held_back = [survey / row["image"] for row in _cracked(survey, score)]
    moved = [path.rename(path.with_name(f".{path.name}")) for path in held_back]
    tell(compare(score(survey)))
    for hidden, path in zip(moved, held_back, strict=True):
        hidden.rename(path)
    score(survey)

    assert new_cracks(compare(score(survey))) == cracks(report) == len(held_back) > 0


def test_a_survey_that_failed_is_not_noted_as_told(survey: Path, report: Path, score: Score) -> None:
    outcome = compare(score(survey))
    tell(SurveyOutcome(outcome.entry, problem="The server was gone."))

    assert new_cracks(compare(score(survey))) == cracks(report)


def test_in_a_report_without_a_note_everything_before_counts_as_told(
    survey: Path, report: Path, score: Score
) -> None:
    score(survey, limit=4)
    Path(report, "_surveys", "bridge-07.told").unlink()
    before = cracks(report)
    with pytest.raises(Stopped):
        score(survey, shard_images=1, limit=2, on_event=stop)
    between = cracks(report)

    outcome = compare(score(survey))

    assert new_cracks(outcome) == cracks(report) - between > 0
    assert before <= between
    assert new_cracks(compare(score(survey))) == new_cracks(outcome), "this one was not published"


def test_a_damaged_note_is_said_and_neither_swallows_nor_repeats(
    survey: Path, report: Path, score: Score
) -> None:
    tell(compare(score(survey, limit=4)))
    Path(report, "_surveys", "bridge-07.told").write_text("{")
    before = cracks(report)

    for _ in range(2):  # the first was not published
        outcome = compare(score(survey))
        assert "announced is damaged: " in outcome.reasons[0]
    assert "note of what was announced is damaged" in plain_night(NightlyRun("", (outcome,)))
    assert outcome.presumed
    tell(outcome)

    again = compare(score(survey, force=True, limit=1))
    assert (again.presumed, len(again.changes.runs if again.changes else ())) == ({}, 1)
    assert not check_report(ReportTable.open(report)).findings
    assert before > 0


def test_a_renamed_folder_has_no_new_cracks(survey: Path, report: Path, score: Score) -> None:
    folder = survey / "span-0"
    folder.mkdir()
    for row in _cracked(survey, score):
        shutil.move(survey / row["image"], folder / Path(row["image"]).name)
    tell(compare(score(survey)))
    folder.rename(survey / "span-1")

    outcome = compare(score(survey))

    assert outcome.result
    assert outcome.result.cracks == outcome.result.moved > 0
    assert (new_cracks(outcome), outcome.reasons) == (0, ())


def test_files_beside_the_photographs_are_no_lost_images(patches: Path, score: Score) -> None:
    for number in range(3):
        (patches / f"DJI_{number}.SRT").write_text("00:00:01")
    outcome = compare(score(patches, max_rejected=0))

    assert (outcome.reasons, outcome.state) == ((), "done")
    (patches / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = score(patches, max_rejected=0, force=True)
    assert (result.rejected, result.not_images) == (4, 3)
    with pytest.raises(TooManyRejected, match=r"4 of 16 files of .* were rejected \(3 not images\)"):
        result.check_rejected()


def test_rejected_files_are_the_same_number_wherever_a_night_is_shown(patches: Path, score: Score) -> None:
    for number in range(3):
        (patches / f"DJI_{number}.SRT").write_text("00:00:01")
    (patches / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    outcome = compare(score(patches, max_rejected=0))
    night = NightlyRun("surveys", (outcome,))
    (row,) = night_rows(night)

    assert (row["rejected"], row["not images"]) == ("4", "3")
    assert "4 rejected (3 not images), more than allowed" in outcome.reasons
    assert " 4 rejected (3 not images)," in outcome.headline
    assert " 4 rejected." in markdown_night(night)
    (found,) = json.loads(json.dumps(night.as_dict()))["outcomes"]
    assert found["entry"] == {"name": "patches", "uri": str(patches), "tile": None, "owner": ""}
    assert found["result"]["rejected"] == found["changes"]["rejected"] == 4
    assert found["result"]["reject_codes"]["not_an_image"] == found["changes"]["not_images"] == 3
    assert "+ 4 rejected (3 not images) +" in plain_summary(outcome.result)


def test_notes_stay_when_a_report_is_compacted_checked_and_cleaned(
    survey: Path, report: Path, score: Score
) -> None:
    tell(compare(score(survey, shard_images=2)))
    told = read_announced(ReportTable.open(report).place, "bridge-07")
    table = ReportTable.open(report)
    compact(table, "bridge-07")
    delete_orphans(table, "bridge-07")

    assert not check_report(table).findings
    assert read_announced(table.place, "bridge-07") == told
    assert told
    assert sum(told.values()) == check_report(table).rows
    assert new_cracks(compare(score(survey))) == 0


def _cracked(survey: Path, score: Score) -> list[dict[str, Any]]:
    trial = survey.parent / "trial"
    score(survey, report=trial)
    return rows(trial, "select image from latest where verdict = 'crack'")
