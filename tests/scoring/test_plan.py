"""Shards: every image in exactly one, bounded by count and bytes, fine enough for all slots."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from crackmodel.reports.schema import TIMESTAMP
from crackmodel.scoring.plan import plan_shards

NIGHT = datetime(2026, 3, 1, 2, 0, 0, 123456, tzinfo=UTC)


def listing(sizes: list[int]) -> pa.Table:
    return pa.table(
        {
            "image": pa.array([f"{number:05}.jpg" for number in range(len(sizes))]),
            "bytes": pa.array(sizes, pa.int64()),
            "modified_at": pa.array([NIGHT] * len(sizes), TIMESTAMP),
        }
    )


@given(
    sizes=st.lists(st.integers(0, 5_000_000), max_size=200),
    max_images=st.integers(1, 50),
    max_bytes=st.integers(1, 20_000_000),
    slots=st.integers(1, 16),
)
def test_every_image_is_in_exactly_one_shard_and_in_order(
    sizes: list[int], max_images: int, max_bytes: int, slots: int
) -> None:
    shards = list(plan_shards(listing(sizes), max_images=max_images, max_bytes=max_bytes, slots=slots))

    assert [file.image for shard in shards for file in shard.files] == listing(sizes)["image"].to_pylist()
    assert [shard.number for shard in shards] == list(range(len(shards)))
    for shard in shards:
        assert 1 <= len(shard.files) <= max_images
        assert len(shard.files) == 1 or sum(file.bytes for file in shard.files) <= max_bytes


def test_a_file_larger_than_a_shard_is_a_shard_of_its_own() -> None:
    shards = list(plan_shards(listing([10, 5_000_000, 10]), max_images=10, max_bytes=1_000_000, slots=1))

    assert [[file.bytes for file in shard.files] for shard in shards] == [[10], [5_000_000], [10]]


def test_a_small_survey_gives_every_slot_work() -> None:
    shards = list(plan_shards(listing([5_000_000] * 15), max_images=500, max_bytes=2**26, slots=4))

    assert len(shards) >= 4
    assert max(len(shard.files) for shard in shards) <= 2


def test_many_small_patches_fill_shards_up_to_the_count() -> None:
    shards = list(plan_shards(listing([6_000] * 10_000), max_images=500, max_bytes=2**26, slots=2))

    assert {len(shard.files) for shard in shards} == {500}


def test_times_reach_the_worker_to_the_microsecond() -> None:
    (shard,) = plan_shards(listing([1]), max_images=1, max_bytes=1, slots=1)

    assert shard.files[0].modified_at == NIGHT


def test_nothing_to_score_makes_no_shard() -> None:
    assert not list(plan_shards(listing([]), max_images=1, max_bytes=1, slots=1))
