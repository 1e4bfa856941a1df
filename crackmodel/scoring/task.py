"""The input and the output of a scoring task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from crackmodel.models.inference.model_file import ModelFile
from crackmodel.reports.writing.shard_file import ShardFile
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import Survey


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What all shards of a run share."""

    run_id: str
    survey: Survey
    report: Location
    model: ModelFile
    settings: ScoreSettings


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The counts of a shard, and its file, not committed yet.

    `stages` are seconds by stage, see `stages.STAGES`; `rejections` are its first rejected images and why.
    """

    shard: int
    file: ShardFile
    images: int
    cracks: int
    rejected: Counter[str]
    tiles: int
    seconds: float
    unfamiliar: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    rejections: tuple[str, ...] = ()
    node: str = ""
