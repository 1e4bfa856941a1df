"""The input and the output of a scoring task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from crackmodel.models.inference.model_file import ModelFile
from crackmodel.reports.writing.shard_file import ShardFile
from crackmodel.surveys.decode_limits import DecodeLimits
from crackmodel.surveys.listing import Survey


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What all shards of a run share; `image_seconds` is the longest that an image may take on a worker."""

    run_id: str
    survey: Survey
    report: str
    model: ModelFile
    tile: int
    overlap: int
    limits: DecodeLimits
    software: str
    image_seconds: float


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The result of a shard: its file, which is not committed yet, and counts.

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
