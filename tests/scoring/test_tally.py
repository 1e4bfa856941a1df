"""What a run tells now and then: counts, and what a person may want to know."""

from __future__ import annotations

import re
from typing import Any

from crackmodel.scoring.run_events import RunPlanned, ShardCommitted, WorkerLost
from crackmodel.scoring.tally import Tally


def tally(pending: int) -> Tally:
    return Tally(
        RunPlanned("run", "deck", "report", "builtin@v1", listed=pending, skipped=0, pending=pending)
    )


def committed(done: int, **given: Any) -> ShardCommitted:
    counts = {"shard": 0, "images": 10, "cracks": 2, "rejected": 0, "tiles": 10, "pending": 100}
    return ShardCommitted("run", done=done, **{**counts, **given})


def test_it_sums_up_and_knows_when_all_is_done() -> None:
    run = tally(100)
    run.take(committed(50, rejected=1))
    assert (run.percent, run.finished) == (50.0, False)
    assert run.line == "50 of 100 images, 2 with cracks, 1 rejected"
    run.take(committed(60))
    assert re.fullmatch(
        r"60 of 100 images, [\d,.]+ images/s, [\d,]+ s left, 4 with cracks, 1 rejected", run.line
    )

    run.take(committed(100))
    assert re.fullmatch(r"100 of 100 images, [\d,.]+ images/s, 6 with cracks, 1 rejected", run.line)
    assert (run.percent, run.finished) == (100.0, True)
    assert not run.notices()


def test_nothing_to_do_is_all_done() -> None:
    assert tally(0).finished
    assert tally(0).percent == 100.0


def test_rejected_images_are_named_once_and_few_of_them() -> None:
    run = tally(1_000)
    run.take(committed(10, rejected=5, rejections=("a\x1b.jpg: truncated, why", "b.jpg: empty, why")))
    assert run.notices() == [
        r"rejected a\x1b.jpg: truncated, why",
        "rejected b.jpg: empty, why",
        "3 more, which the report has",
    ]
    assert not run.notices()

    for shard in range(100):
        run.take(committed(10 * shard, rejected=1, rejections=(f"{shard}.jpg: empty, why",)))
    told = run.notices()
    assert len(told) == 11
    assert told[-1] == "90 more, which the report has"


def test_a_lost_worker_and_what_it_worked_on_are_told() -> None:
    run = tally(100)
    run.take(WorkerLost("run", 3, 12, "00.jpg"))
    run.take(WorkerLost("run", 3, 1, "05.jpg"))
    several, one = run.notices()
    assert "12 images from 00.jpg on died" in several
    assert "05.jpg alone" in one


def test_a_shard_that_takes_far_longer_than_the_others_is_told_with_the_stage_and_the_node() -> None:
    run = tally(1_000)
    for _ in range(4):
        run.take(committed(10, seconds=10.0, node="ray-2"))
    run.take(committed(50, seconds=61.0, node="ray-2", stages={"fetch": 50.0, "engine": 9.0}))
    run.take(committed(60, seconds=20.0, node="ray-2"))

    assert run.notices() == [
        "10 images took 61 s on ray-2, 50 s of it to fetch; 6 times as long a tile as the others"
    ]
