"""Seconds by stage come with every shard, and add up to no more than the shard took."""

from __future__ import annotations

from pathlib import Path

from crackmodel.scoring.run_events import Event, ShardCommitted
from crackmodel.scoring.worker.stages import STAGES, StageWatch
from tests.scoring.conftest import Score


def test_what_passes_between_two_laps_belongs_to_the_stage_that_ends() -> None:
    watch = StageWatch()
    watch.lap("decode")
    before = watch.seconds["decode"]
    watch.lap("engine")
    watch.lap("decode")

    assert set(watch.seconds) == set(STAGES)
    assert watch.seconds["decode"] > before
    assert watch.seconds["engine"] > 0 == watch.seconds["write"]


def test_every_stage_of_a_shard_is_measured(patches: Path, score: Score) -> None:
    (patches / "13.jpg").write_text("no picture")
    events: list[Event] = []
    score(patches, on_event=events.append)

    shards = [event for event in events if isinstance(event, ShardCommitted)]
    assert all(sum(shard.stages.values()) <= shard.seconds for shard in shards)
    seconds = {stage: sum(shard.stages[stage] for shard in shards) for stage in STAGES}
    assert min(seconds.values()) > 0
    (rejection,) = [rejection for shard in shards for rejection in shard.rejections]
    assert rejection.startswith("13.jpg: mislabelled, ")
    assert all(shard.node for shard in shards)
