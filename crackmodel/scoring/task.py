"""What a run hands to its workers, and what they hand back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from crackmodel.models.inference.out_of_distribution import Familiarity
from crackmodel.reports.writing.shard_file import ShardFile
from crackmodel.surveys.decode_limits import DecodeLimits
from crackmodel.surveys.listing import Survey


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The model as workers get it: the bytes, not a path of the driver's disk.

    `ood_threshold` and `familiarity` are None for a model that cannot tell what it was trained on.
    """

    reference: str
    sha256: str
    engine: str
    temperature: float
    threshold: float
    content: bytes = field(compare=False, repr=False)
    ood_threshold: float | None = None
    familiarity: Familiarity | None = field(default=None, compare=False, repr=False)


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
    """What became of a shard: the file that waits for its commit, counts, and what a log should say.

    `stages` are seconds by stage, see `stages.STAGES`; `rejections` are its first rejected images, and why.
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
