"""What a user may set, in one frozen object that is built once at the edge.

Each setting comes from its argument or option, else from its `CRACKMODEL_*` environment variable, else
from its default. `RAY_ADDRESS` and Prefect's settings keep the names that Ray and Prefect give them.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from crackmodel.errors import UsageError

_AGO: Final = re.compile(r"([0-9]{1,6})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}

EngineName = Literal["litert", "litert-int8", "tensorflow"]
TilePixels = Annotated[int, Field(ge=32, le=4096)]
NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Gpus = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CRACKMODEL_", frozen=True, extra="forbid", protected_namespaces=()
    )

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Build the settings from what was given; None means "not given".

        Raises:
            UsageError: A value is out of range or of the wrong type.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = "_".join(str(part) for part in first["loc"])
            why = first["msg"].removeprefix("Value error, ")
            raise UsageError(
                f"{name.replace('_', '-')}={first['input']!r} cannot be used: {why}.",
                f"Correct the option --{name.replace('_', '-')} or the variable CRACKMODEL_{name.upper()}.",
            ) from error


def _is_iso(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


class ScoreSettings(_Settings):
    """How one survey is scored."""

    report: str = Field("report", min_length=1, description="Delta table to write: local path or URI")
    models: Path | str = Field(Path("models"), description="Folder or URI of the model registry")
    model: str = Field("builtin", description="Model reference: NAME, NAME@VERSION, NAME@ALIAS, builtin")
    engine: EngineName = Field("litert", description="What runs the model")
    tile: TilePixels = Field(227, description="Edge of a tile, pixels of the photograph")
    overlap: NonNegative = Field(0, description="Overlap of neighbouring tiles, pixels")
    workers: NonNegative | None = Field(None, description="Task slots; 0 scores in this process without Ray")
    shard_images: int = Field(500, ge=1, description="Most images in one shard")
    shard_bytes: int = Field(64 * 2**20, ge=1, description="Most image bytes in one shard")
    gpus_per_task: Gpus = Field(0.0, description="GPUs of each task, or a share of one; for tensorflow")
    limit: Positive | None = Field(None, description="Most images to score in this run")
    retry_rejected: bool = Field(False, description="Read rejected images again though they did not change")
    force: bool = Field(False, description="Score images again though the report holds them")
    since: datetime | None = Field(
        None, description="Score only files modified since: a date, or 36h, 7d, 2w"
    )
    mark_missing: bool = Field(
        False, description="Let images that are no longer in the survey count as vanished in the report"
    )
    max_rejected: NonNegative | None = Field(None, description="Most images that a successful run may reject")
    max_image_bytes: int = Field(512 * 2**20, ge=1, description="Larger files are rejected unread")
    image_seconds: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="Longest time for one image on a worker; not used where workers is 0",
    )
    compact_after: int = Field(
        200, ge=0, description="Small files of a survey that make a run compact it; 0 never"
    )
    keep_hours: int = Field(0, ge=0, le=168, description="How long files that a compaction replaced are kept")
    max_image_pixels: int = Field(250_000_000, ge=1, description="Larger pictures are rejected undecoded")

    @field_validator("since", mode="before")
    @classmethod
    def _reads_ages(cls, since: Any) -> Any:
        if not isinstance(since, str):
            return since
        if (ago := _AGO.fullmatch(since)) is None:
            # pydantic would take a bare number for seconds since 1970
            if re.fullmatch(r"[-+]?[0-9]*[.]?[0-9]*", since.strip()) or not _is_iso(since):
                raise ValueError("a date is written 2026-11-01 or 2026-11-01T18:00, an age 36h, 7d or 2w")
            return since
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise ValueError("the age is longer than the calendar") from None

    @field_validator("since")
    @classmethod
    def _is_of_this_place(cls, since: datetime | None) -> datetime | None:
        return since if since is None else since.astimezone(UTC)  # without an offset: this machine's time

    @field_validator("gpus_per_task")
    @classmethod
    def _is_a_share_or_a_number(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("more than one GPU must be a whole number of them")
        return gpus

    @field_validator("gpus_per_task")
    @classmethod
    def _is_for_whom_uses_them(cls, gpus: float, info: ValidationInfo) -> float:
        if gpus and info.data.get("engine", "tensorflow") != "tensorflow":
            raise ValueError(
                f"the engine {info.data['engine']} uses no GPU, and would keep it from others; leave it out, "
                "or take --engine tensorflow"
            )
        if gpus and info.data.get("workers") == 0:
            raise ValueError("with --workers 0 there are no tasks; leave one of the two out")
        return gpus

    @field_validator("overlap")
    @classmethod
    def _leaves_a_stride(cls, overlap: int, info: ValidationInfo) -> int:
        if overlap >= info.data.get("tile", overlap + 1):
            raise ValueError(f"it must be smaller than the tile's edge, {info.data['tile']}")
        return overlap


class TrainSettings(_Settings):
    """Where training finds its weights and keeps its models."""

    models: Path | str = Field(Path("models"), description="Folder or URI of the model registry")
    weights: Path | None = Field(None, description="ImageNet weights of MobileNetV2 without its top (.h5)")
    features: Path | None = Field(None, description="Folder of features for later trainings")


class JobSettings(_Settings):
    """How a command runs as a job of a cluster."""

    job_python: str = Field(
        sys.executable, min_length=1, description="Interpreter on the cluster's head that has crackmodel"
    )


class CompactSettings(_Settings):
    """How a report is compacted."""

    report: str = Field("report", min_length=1, description="Delta table to compact: local path or URI")
    target_size: int = Field(64, ge=1, description="Size of files afterwards, MiB")
    keep_hours: int = Field(0, ge=0, le=168, description="How long replaced files are kept")


class ReportSettings(_Settings):
    """Which report is read."""

    report: str = Field("report", min_length=1, description="Delta table to read: local path or URI")
