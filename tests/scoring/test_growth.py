"""The benchmark of growth: it must go on working as the code that it measures changes."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.growth import night


def test_every_stage_of_a_run_is_measured_and_a_second_night_scores_nothing(tmp_path: Path) -> None:
    first, second = (night(1_200, workers=0, folder=tmp_path) for _ in range(2))

    assert (first["scored"], second["scored"]) == (1_200, 0)
    assert set(first["stages"]) > {"open", "anti-join", "shards cut", "commit", "reconcile"}
    assert second["files"] == first["files"] >= 3
    assert "shards cut" not in second["stages"]
