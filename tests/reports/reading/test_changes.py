"""What a run brought that was not known before."""

from __future__ import annotations

import hashlib
import math
import random
from datetime import timedelta
from typing import Any

import pytest

from crackmodel.reports.reading.changes import (
    ChangedImage,
    Changes,
    compare_unannounced,
    measure_drift,
)
from crackmodel.reports.reading.run_statistics import rows_by_run
from crackmodel.reports.table import ReportTable
from tests.reports.conftest import Commit
from tests.reports.rows import NOON, make_rejected, make_row, run_name


def scored(image: str, probability: float, run: int, **changes: Any) -> dict[str, Any]:
    """A row whose content no other image has, unless a test says so."""
    row = make_row(
        image,
        crack_probability=probability,
        verdict="crack" if probability >= 0.5 else "clear",
        run_id=run_name(run),
        scored_at=NOON + timedelta(days=run),
        sha256=hashlib.sha256(f"{image} {probability}".encode()).hexdigest(),
    )
    return row | changes


def compare_run(table: ReportTable, run: int, **settings: Any) -> Changes:
    """Compare a run with those before it, as after nights that told of all of them."""
    told = {run_name(number): 1000 for number in range(run)}
    return compare_unannounced(table, "bridge", told, **settings)


def test_first_run_has_new_cracks_and_nothing_to_compare_with(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1), scored("b.jpg", 0.1, 1)])

    changes = compare_run(table, 1)

    assert (changes.rows, changes.cracks, changes.new_cracks, changes.risen) == (2, 1, 1, 0)
    assert changes.images == (ChangedImage("a.jpg", pytest.approx(0.9), None),)
    assert changes.drift is None


def test_known_crack_is_not_new_and_a_rise_is_told(table: ReportTable, commit: Commit) -> None:
    commit([scored("known.jpg", 0.9, 1), scored("grown.jpg", 0.1, 1), scored("new.jpg", 0.2, 1)])
    commit([scored("grown.jpg", 0.05, 2)])
    commit([scored("known.jpg", 0.95, 3), scored("grown.jpg", 0.4, 3), scored("new.jpg", 0.6, 3)])

    changes = compare_run(table, 3, step=0.3)

    assert (changes.rows, changes.cracks, changes.new_cracks, changes.risen) == (3, 2, 1, 2)
    assert [(image.image, image.before) for image in changes.images] == [
        ("new.jpg", pytest.approx(0.2)),
        ("grown.jpg", pytest.approx(0.05)),
    ]


@pytest.mark.parametrize("code", ["vanished", "unreadable", "changed", "scoring_failed"])
def test_known_crack_that_could_not_be_read_for_a_night_is_not_new(
    table: ReportTable, commit: Commit, code: str
) -> None:
    commit([scored("a.jpg", 0.9, 1)])
    commit([make_rejected("a.jpg", code, run_id=run_name(2), reject_stage="fetch")])
    away = compare_run(table, 2)
    commit([scored("a.jpg", 0.9, 3)])
    back = compare_run(table, 3)

    assert (away.rows, away.cracks, away.rejected) == (1, 0, 1)
    assert (back.rows, back.cracks, back.new_cracks) == (1, 1, 0)


def test_new_crack_that_could_not_be_read_again_is_told(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.1, 1)])
    commit([scored("a.jpg", 0.9, 2)])
    commit([make_rejected("a.jpg", "unreadable", run_id=run_name(3), reject_stage="fetch")])

    assert compare_run(table, 2).new_cracks == 1


@pytest.mark.parametrize("off", [timedelta(days=-9), timedelta(days=999)], ids=str)
def test_crack_of_a_worker_whose_clock_is_wrong_is_told_once(
    table: ReportTable, commit: Commit, off: timedelta
) -> None:
    commit([scored("a.jpg", 0.1, 1)])
    commit([scored("a.jpg", 0.9, 2, scored_at=NOON + off)])
    assert compare_run(table, 2).new_cracks == 1
    commit([scored("a.jpg", 0.9, 3)])
    assert compare_run(table, 3).new_cracks == 0


@pytest.mark.parametrize("change", [{"model": "m@2"}, {"model_sha256": "b" * 64}], ids=str)
def test_another_models_probability_is_no_rise(
    table: ReportTable, commit: Commit, change: dict[str, str]
) -> None:
    commit([scored("a.jpg", 0.1, 1)])
    commit([scored("a.jpg", 0.45, 2, **change)])

    assert compare_run(table, 2).risen == 0


def test_other_surveys_do_not_count(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1, survey="tunnel")])
    commit([scored("a.jpg", 0.9, 2)])

    assert compare_run(table, 2).new_cracks == 1
    assert rows_by_run(table, "bridge") == {run_name(2): 1}


def test_runs_that_nobody_told_of_are_told_together(table: ReportTable, commit: Commit) -> None:
    commit([scored("old.jpg", 0.9, 1), scored("calm.jpg", 0.1, 1), scored("back.jpg", 0.1, 1)])
    commit([scored("first.jpg", 0.9, 2), scored("calm.jpg", 0.4, 2), scored("back.jpg", 0.9, 2)])
    commit([scored("second.jpg", 0.9, 3), scored("old.jpg", 0.9, 3), scored("back.jpg", 0.1, 3)])

    changes = compare_run(table, 2, step=0.2)

    assert changes.runs == {run_name(2): 3, run_name(3): 3}
    assert (changes.rows, changes.cracks, changes.new_cracks, changes.risen) == (5, 3, 2, 1)
    assert {image.image for image in changes.images} == {"first.jpg", "second.jpg", "calm.jpg"}


def test_run_that_has_grown_since_it_was_told_of_is_told_again(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1)])
    told = rows_by_run(table, "bridge")
    commit([scored("b.jpg", 0.9, 1)])

    assert compare_unannounced(table, "bridge", told).runs == {run_name(1): 2}
    assert compare_unannounced(table, "bridge", {run_name(1): 2, "lost-with-the-disk": 7}).runs == {}


def test_crack_that_has_gone_untold_is_not_told(table: ReportTable, commit: Commit) -> None:
    """An interrupted run saw it under one name, the next one under another."""
    commit([scored("a/1.jpg", 0.9, 1, sha256="a" * 64)])
    commit([scored("b/1.jpg", 0.9, 2, sha256="a" * 64)])
    gone = {"run_id": run_name(2), "scored_at": NOON + timedelta(days=2, hours=1), "reject_stage": "list"}
    commit([make_rejected("a/1.jpg", "moved", **gone)])

    changes = compare_unannounced(table, "bridge", {})

    assert (changes.rows, changes.new_cracks) == (1, 1)
    assert changes.images[0].image == "b/1.jpg"


def test_image_of_another_name_is_known_by_its_content(table: ReportTable, commit: Commit) -> None:
    commit([scored(f"a/{n}.jpg", 0.9, 1, sha256=str(n) * 64) for n in range(4)])
    commit([make_rejected("a/broken.jpg", run_id=run_name(1), sha256=None)])
    moved = [scored(f"span-1/{n}.jpg", 0.9, 2, sha256=str(n) * 64) for n in range(4)]
    commit([*moved, scored("span-1/new.jpg", 0.9, 2, sha256="f" * 64), scored("x.jpg", 0.9, 2, sha256=None)])

    changes = compare_run(table, 2)

    assert (changes.rows, changes.cracks, changes.new_cracks, changes.risen) == (6, 6, 2, 0)
    assert {image.image for image in changes.images} == {"span-1/new.jpg", "x.jpg"}


def test_name_that_is_known_decides_before_the_content(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1, sha256="a" * 64), scored("b.jpg", 0.1, 1, sha256="b" * 64)])
    commit([scored("b.jpg", 0.9, 2, sha256="a" * 64)])

    assert compare_run(table, 2).new_cracks == 1


def test_files_that_are_no_images_are_no_lost_images(table: ReportTable, commit: Commit) -> None:
    commit([scored(f"{n}.jpg", 0.1, 1) for n in range(3)] + [make_rejected("bad.jpg")])
    commit([make_rejected(f"{n}.SRT", "not_an_image") for n in range(6)])

    changes = compare_run(table, 1)

    assert (changes.rows, changes.rejected, changes.not_images, changes.rejected_share) == (4, 7, 6, 0.25)


def test_shares_leave_out_images_that_are_gone(table: ReportTable, commit: Commit) -> None:
    odd = {"ood_score": 5.0, "ood_threshold": 2.0, "ood_fraction": 1.0}
    commit(
        [
            scored("a.jpg", 0.1, 1),
            scored("dog.jpg", 0.1, 1, **odd),
            make_rejected("bad.jpg"),
            make_rejected("old.jpg", "moved", reject_stage="list"),
        ]
    )

    changes = compare_run(table, 1)

    assert changes.rows == 3
    assert changes.rejected_share == pytest.approx(1 / 3)
    assert changes.unfamiliar_share == 0.5


def spread(prefix: str, run: int, count: int, shift: float = 0.0, **changes: Any) -> list[dict[str, Any]]:
    """Images of two classes that overlap, every run another draw."""
    noise = random.Random(run)
    draws = [noise.betavariate(0.6, 1.2) for _ in range(count)]
    return [
        scored(f"{prefix}-{n}.jpg", min(1.0, draw + shift), run, **changes) for n, draw in enumerate(draws)
    ]


@pytest.mark.parametrize("change", [{"model": "m@2"}, {"model_sha256": "b" * 64}], ids=str)
def test_drift_is_seen_against_earlier_runs_of_the_same_model(
    table: ReportTable, commit: Commit, change: dict[str, str]
) -> None:
    commit(spread("a", 1, 60))
    commit([scored(f"a-{n}.jpg", 0.8, 2, **change) for n in range(60)])
    commit(spread("b", 3, 60))
    quiet = compare_run(table, 3)
    commit(spread("c", 4, 60, shift=0.3))
    shifted = compare_run(table, 4)

    assert quiet.drift is not None
    assert not quiet.drifted
    assert shifted.drifted


def test_chance_alone_is_called_drift_once_in_a_hundred() -> None:
    """And 0.25, a rule of thumb for large samples, would be reached by half of such small ones."""
    noise = random.Random(5)
    called = surpassed = 0
    for _ in range(500):
        ours, before = ([0] * 10 for _ in range(2))
        for histogram, count in ((ours, 50), (before, 70)):
            for _ in range(count):
                histogram[min(9, int(noise.betavariate(0.6, 1.2) * 10))] += 1
        index, limit = measure_drift(ours, before)
        assert index is not None
        assert limit is not None
        called += index >= limit
        surpassed += index >= 0.25

    assert called <= 10
    assert surpassed > 150


def test_drift_among_many_images_is_called_by_the_rule_of_thumb() -> None:
    assert measure_drift([500] * 10, [5000] * 10)[1] == 0.25
    assert measure_drift([5] * 10, [5] * 10)[1] == pytest.approx(21.666 / 25)
    assert measure_drift([4] * 10, [500] * 10) == (None, None)


def test_run_that_wrote_nothing_changes_nothing(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1)])

    changes = compare_run(table, 2)

    assert (changes.rows, changes.new_cracks, changes.rejected_share, changes.drift) == (0, 0, 0.0, None)


def test_index_by_hand() -> None:
    assert measure_drift([60, 0], [60, 0])[0] == 0
    assert measure_drift([30, 30], [60, 0])[0] == pytest.approx(
        (0.5 - 60.5 / 61) * (math.log(0.5 / (60.5 / 61))) + (0.5 - 0.5 / 61) * (math.log(0.5 / (0.5 / 61)))
    )
    assert measure_drift([49], [1000]) == (None, None)
