"""Counters for Prometheus on Ray's own endpoint: `ray_crackmodel_*` on every node.

Only a run on Ray counts. The driver counts a shard once, when it hands it on to be committed, so that a shard
which Ray repeats is not counted twice and no image costs a call. Where Ray was installed without its metrics
agent (plain `ray`), the numbers go nowhere and cost nothing.
"""

from __future__ import annotations

from crackmodel.scoring.task import ShardResult


class RayCounters:
    """The counters of a run; needs a connected Ray.

    Args:
        survey: Name of the survey, a label of every counter.
    """

    def __init__(self, survey: str) -> None:
        from ray.util.metrics import Counter

        self._survey = survey
        self._images = Counter(
            "crackmodel_images", "Images that were scored or rejected.", ("survey", "verdict")
        )
        self._rejected = Counter("crackmodel_rejected", "Images that were rejected.", ("survey", "code"))
        self._tiles = Counter("crackmodel_tiles", "Tiles that the model saw.", ("survey",))
        self._seconds = Counter(
            "crackmodel_stage_seconds", "Seconds of a core, by stage of scoring.", ("survey", "stage")
        )

    def count(self, result: ShardResult) -> None:
        """Add the result of a shard."""
        rejected = sum(result.rejected.values())
        clear = result.images - result.cracks - rejected
        for verdict, images in (("crack", result.cracks), ("clear", clear), ("rejected", rejected)):
            self._add(self._images, images, verdict=verdict)
        for code, images in result.rejected.items():
            self._add(self._rejected, images, code=code)
        self._add(self._tiles, result.tiles)
        for stage, seconds in result.stages.items():
            self._add(self._seconds, seconds, stage=stage)

    def _add(self, counter: object, value: float, **labels: str) -> None:
        if value > 0:  # Ray refuses zero
            counter.inc(value, {"survey": self._survey, **labels})  # type: ignore[attr-defined]
