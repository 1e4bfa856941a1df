"""What a run brought that was not known before."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from crackmodel.reports.changes import ChangedImage, compare_run, stability_index
from crackmodel.reports.table import ReportTable

from .conftest import Commit
from .rows import NOON, make_rejected, make_row


def scored(image: str, probability: float, run: int, **changes: Any) -> dict[str, Any]:
    return make_row(
        image,
        crack_probability=probability,
        verdict="crack" if probability >= 0.5 else "clear",
        run_id=f"run-{run}",
        scored_at=NOON + timedelta(days=run),
        **changes,
    )


def test_first_run_has_new_cracks_and_nothing_to_compare_with(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1), scored("b.jpg", 0.1, 1)])

    changes = compare_run(table, "bridge", "run-1")

    assert (changes.rows, changes.cracks, changes.new_cracks, changes.risen) == (2, 1, 1, 0)
    assert changes.images == (ChangedImage("a.jpg", pytest.approx(0.9), None),)
    assert changes.drift is None


def test_known_crack_is_not_new_and_a_rise_is_told(table: ReportTable, commit: Commit) -> None:
    commit([scored("known.jpg", 0.9, 1), scored("grown.jpg", 0.1, 1), scored("new.jpg", 0.2, 1)])
    commit([scored("grown.jpg", 0.05, 2)])
    commit([scored("known.jpg", 0.95, 3), scored("grown.jpg", 0.4, 3), scored("new.jpg", 0.6, 3)])

    changes = compare_run(table, "bridge", "run-3", step=0.3)

    assert (changes.rows, changes.cracks, changes.new_cracks, changes.risen) == (3, 2, 1, 2)
    assert [(image.image, image.before) for image in changes.images] == [
        ("new.jpg", pytest.approx(0.2)),
        ("grown.jpg", pytest.approx(0.05)),
    ]


@pytest.mark.parametrize("change", [{"model": "m@2"}, {"model_sha256": "b" * 64}], ids=str)
def test_another_models_probability_is_no_rise(
    table: ReportTable, commit: Commit, change: dict[str, str]
) -> None:
    commit([scored("a.jpg", 0.1, 1)])
    commit([scored("a.jpg", 0.45, 2, **change)])

    assert compare_run(table, "bridge", "run-2").risen == 0


def test_later_runs_and_other_surveys_do_not_count(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1)])
    commit([scored("a.jpg", 0.1, 2, survey="tunnel")])
    commit([scored("a.jpg", 0.1, 3)])

    assert compare_run(table, "bridge", "run-1").new_cracks == 1
    assert compare_run(table, "bridge", "run-3").new_cracks == 0


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

    changes = compare_run(table, "bridge", "run-1")

    assert changes.rows == 3
    assert changes.rejected_share == pytest.approx(1 / 3)
    assert changes.unfamiliar_share == 0.5


@pytest.mark.parametrize("change", [{"model": "m@2"}, {"model_sha256": "b" * 64}], ids=str)
def test_drift_is_seen_against_earlier_runs_of_the_same_model(
    table: ReportTable, commit: Commit, change: dict[str, str]
) -> None:
    commit([scored(f"{n}.jpg", 0.005, 1) for n in range(60)])
    commit([scored(f"{n}.jpg", 0.8, 2, **change) for n in range(60)])
    commit([scored(f"new-{n}.jpg", 0.005 if n < 58 else 0.6, 3) for n in range(60)])
    commit([scored(f"dark-{n}.jpg", 0.8, 4) for n in range(60)])

    quiet, shifted = (compare_run(table, "bridge", run) for run in ("run-3", "run-4"))

    assert quiet.drift is not None
    assert quiet.drift < 0.25
    assert not quiet.drifted
    assert shifted.drifted


def test_run_that_wrote_nothing_changes_nothing(table: ReportTable, commit: Commit) -> None:
    commit([scored("a.jpg", 0.9, 1)])

    changes = compare_run(table, "bridge", "run-2")

    assert (changes.rows, changes.new_cracks, changes.rejected_share, changes.drift) == (0, 0, 0.0, None)


def test_index_by_hand() -> None:
    assert stability_index([60, 0], [60, 0]) == 0
    assert stability_index([30, 30], [60, 0]) == pytest.approx(
        (0.5 - 60.5 / 61) * (math.log(0.5 / (60.5 / 61))) + (0.5 - 0.5 / 61) * (math.log(0.5 / (0.5 / 61)))
    )
    assert stability_index([49], [1000]) is None
