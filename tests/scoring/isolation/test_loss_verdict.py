"""Rejections are accepted when something shows that the images are to blame, and not the workers."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime

import pytest

from crackmodel.errors import ClusterError, SurveyError
from crackmodel.reports.writing.shard_file import ShardFile
from crackmodel.scoring.driver.dispatch import _cut, _needs_own_process
from crackmodel.scoring.isolation.loss_verdict import LossVerdict
from crackmodel.scoring.plan import ListedFile, Shard
from crackmodel.scoring.task import ShardResult


def result(shard: int, code: str | None = None) -> ShardResult:
    file = ShardFile(f"survey=bridge/part-{shard}.parquet", 1, 1, {"survey": "bridge"}, "{}")
    rejected = Counter([code] if code else [])
    why = (f"{shard}.jpg: {code}, whatever\x1b",) if code else ()
    return ShardResult(
        shard, file, images=1, cracks=0, rejected=rejected, tiles=0, seconds=0.0, rejections=why
    )


class Worker:
    """What answers whether a worker works, and how often it was asked."""

    def __init__(self, works: bool) -> None:
        self.works, self.asked = works, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.works


def numbers(results: list[ShardResult]) -> list[int]:
    return [one.shard for one in results]


def test_rejections_wait_for_a_shard_that_a_worker_survives() -> None:
    verdict = LossVerdict(Worker(works=False))
    assert verdict.accept(result(0, "worker_crashed"), survived=False) == []
    assert verdict.accept(result(1, "timed_out"), survived=False) == []
    assert numbers(verdict.accept(result(2), survived=True)) == [0, 1, 2]
    later = [verdict.accept(result(shard, "worker_crashed"), survived=False) for shard in range(3, 8)]
    assert [numbers(one) for one in later] == [[3], [4], [5], [6], [7]]


@pytest.mark.parametrize("code", ["worker_crashed", "timed_out"])
def test_three_images_are_rejected_when_a_worker_survives_another_picture(code: str) -> None:
    verdict = LossVerdict(worker := Worker(works=True))
    assert verdict.accept(result(0, code), survived=False) == []
    assert verdict.accept(result(1, "worker_crashed"), survived=False) == []
    assert worker.asked == 0
    assert numbers(verdict.accept(result(2, code), survived=False)) == [0, 1, 2]
    assert numbers(verdict.accept(result(3, code), survived=False)) == [3]
    assert worker.asked == 1


def test_images_that_wait_for_their_storage_are_rejected_and_say_nothing_of_workers() -> None:
    verdict = LossVerdict(worker := Worker(works=False))
    assert verdict.accept(result(0, "worker_crashed"), survived=False) == []
    for shard in range(1, 6):
        assert numbers(verdict.accept(result(shard, "unreadable"), survived=False)) == [shard]
    assert verdict.accept(result(6, "worker_crashed"), survived=False) == []
    assert worker.asked == 0
    with pytest.raises(ClusterError, match="die or hang on every image"):
        verdict.accept(result(7, "worker_crashed"), survived=False)


def test_a_storage_that_gives_nothing_any_more_ends_the_run() -> None:
    verdict = LossVerdict(Worker(works=True))
    for shard in range(9):
        verdict.accept(result(shard, "unreadable"), survived=False)
    assert numbers(verdict.accept(result(9), survived=True)) == [9]
    for shard in range(10, 19):
        assert numbers(verdict.accept(result(shard, "unreadable"), survived=False)) == [shard]
    with pytest.raises(
        SurveyError, match=r"^10 images.* 19\.jpg: unreadable, whatever\\x1b\. Check on every"
    ):
        verdict.accept(result(19, "unreadable"), survived=False)


@pytest.mark.parametrize(
    ("codes", "works"),
    [
        (["worker_crashed"] * 3, False),
        (["worker_crashed", "timed_out", "worker_crashed"], False),
        (["scoring_failed"] * 3, True),
    ],
    ids=[
        "no worker survives anything",
        "nor one that hung",
        "their workers died, not their own processes",
    ],
)
def test_otherwise_it_is_the_workers(codes: list[str], works: bool) -> None:
    verdict = LossVerdict(Worker(works))
    for shard, code in enumerate(codes[:2]):
        assert verdict.accept(result(shard, code), survived=False) == []
    with pytest.raises(ClusterError, match="die or hang on every image"):
        verdict.accept(result(2, codes[2]), survived=False)


def test_ten_bad_images_of_a_large_shard_are_soon_alone() -> None:
    files = tuple(ListedFile(f"{number:03}.jpg", 1, datetime.now(UTC)) for number in range(500))
    again, alone, lost = deque([Shard(0, files)]), [], 0
    while len(alone) < 10:
        shard = again.popleft()
        if _needs_own_process(shard):
            alone.append(shard)
        else:
            _cut(shard, again)
            lost += 1
    assert lost < 20
    assert tuple(file for shard in (*alone, *again) for file in shard.files) == files


def test_what_is_held_back_at_the_end_is_returned() -> None:
    verdict = LossVerdict(Worker(works=False))
    verdict.accept(result(0, "worker_crashed"), survived=False)
    assert numbers(verdict.held_back()) == [0]
    assert verdict.held_back() == []
