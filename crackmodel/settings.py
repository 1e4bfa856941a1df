"""Every setting of the product, defined once.

A field here is an option of the command line, a parameter of the flows and their deployments, an option of a
job's command, a variable of the environment, and a row of `docs/reference.md`; `crackmodel.cli.options`
makes the options and parameters. A setting comes from its argument or option, else from its
`CRACKMODEL_*` variable, else from its default. `RAY_ADDRESS` and Prefect's settings keep their own names.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from crackmodel.errors import UsageError

_AGE: Final = re.compile(r"([0-9]{1,6})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}

EngineName = Literal["litert", "litert-int8", "tensorflow"]
Mode = Literal["frozen", "finetune"]
SplitKind = Literal["random", "grouped"]
Precision = Literal["float32", "mixed"]
TilePixels = Annotated[int, Field(ge=32, le=4096)]
NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Location = Annotated[
    str, BeforeValidator(lambda place: str(place) if isinstance(place, Path) else place), Field(min_length=1)
]
Share = Annotated[float, Field(ge=0, le=1)]


def _option(
    default: Any, description: str, *, unset: str = "", short: str = "", tuning: bool = False, **bounds: Any
) -> Any:
    """Define a setting.

    Args:
        default: Its default.
        description: One sentence without a full stop: what the setting does.
        unset: What None means, where that is the default.
        short: A short option, such as `-r`.
        tuning: Whether it is one of those that few people change.
        **bounds: Of the value, as pydantic's `Field` takes them.
    """
    return Field(
        default,
        description=description,
        json_schema_extra={"unset": unset, "short": short, "tuning": tuning},
        **bounds,
    )


class Settings(BaseSettings):
    """Settings that some command reads; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="CRACKMODEL_", frozen=True, extra="forbid", protected_namespaces=()
    )

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Build the settings from what was given; None means "not given".

        Raises:
            UsageError: A value is out of range or of the wrong type, or there is no such setting.
        """
        given = {name: value for name, value in given.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            why = first["msg"].removeprefix("Value error, ")
            option = name.replace("_", "-")
            source = f"option --{option}" if name in given else f"variable CRACKMODEL_{name.upper()}"
            remedy = f"Correct the {source}."
            if first["type"] == "extra_forbidden":
                why, remedy = "there is no such setting", f"There are {', '.join(cls.model_fields)}."
            raise UsageError(f"{option}={first['input']!r} cannot be used: {why}.", remedy) from error

    def given(self) -> dict[str, Any]:
        """Return the settings that are not left to their defaults, whoever gave them."""
        return self.model_dump(exclude_unset=True)


class ReportSettings(Settings):
    """Which report is read."""

    report: Location = _option("report", "The report, a Delta table: folder or URI", short="-r")


class ModelsSettings(Settings):
    """Where trained models are."""

    models: Location = _option("models", "Folder of the model registry, or its URI")


def _normal_since(since: Any) -> Any:
    """Check a date or an age; a date becomes UTC here, since a job may run in another time zone."""
    if isinstance(since, date) and not isinstance(since, datetime):
        since = datetime.combine(since, time())
    if isinstance(since, datetime):
        return since.astimezone(UTC).isoformat()
    if not isinstance(since, str):
        return since
    if age := _AGE.fullmatch(since):
        _before(datetime.now(UTC), age)
        return since
    # To Python, 20261101 is a date too; people may mean seconds.
    if not re.fullmatch(r"[0-9]+", since):
        try:
            return datetime.fromisoformat(since).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            pass
    raise ValueError("a date is written 2026-11-01 or 2026-11-01T18:00, an age 36h, 7d or 2w")


def _before(now: datetime, age: re.Match[str]) -> datetime:
    try:
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    except OverflowError:
        raise ValueError("the age is longer than the calendar") from None


class ScoreSettings(ModelsSettings, ReportSettings):
    """How a survey is scored."""

    model: str = _option("builtin", "The model: builtin, NAME, NAME@VERSION or NAME@ALIAS", short="-m")
    tile: TilePixels = _option(227, "Edge of a tile, in pixels of the photograph")
    overlap: NonNegative = _option(0, "Overlap of neighbouring tiles, in pixels")
    engine: EngineName = _option(
        "litert", "What runs the model; litert-int8 is about twice as fast, where a model has it"
    )
    workers: NonNegative | None = _option(
        None, "Parallel tasks; 0 scores in this process, without Ray", unset="all CPUs"
    )
    gpus_per_task: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _option(
        0.0, "GPUs of each task, or a share of one such as 0.25; for the engine tensorflow"
    )
    limit: Positive | None = _option(None, "Score at most this many images of a survey now", unset="all")
    since: Annotated[str, BeforeValidator(_normal_since)] | None = _option(
        None,
        "Score only files modified since then: 2026-11-01, 2026-11-01T18:00, or an age such as 36h, 7d, 2w",
        unset="all",
    )
    retry_rejected: bool = _option(False, "Read rejected images again though they did not change")
    force: bool = _option(False, "Score images again though the report holds them")
    mark_missing: bool = _option(
        False, "Let images that are gone from their survey count as vanished in the report"
    )
    max_rejected: NonNegative | None = _option(
        None, "Fail at the end if more images of a survey are rejected", unset="no limit"
    )
    image_seconds: float = _option(
        300.0,
        "Longest time that one image may take on a worker, in seconds",
        gt=0,
        le=86_400,
        tuning=True,
    )
    max_image_bytes: int = _option(512 * 2**20, "Larger files are rejected unread", ge=1, tuning=True)
    max_image_pixels: int = _option(250_000_000, "Larger pictures are rejected undecoded", ge=1, tuning=True)
    shard_images: int = _option(500, "Most images that one task scores", ge=1, tuning=True)
    shard_bytes: int = _option(64 * 2**20, "Most bytes of images that one task scores", ge=1, tuning=True)
    compact_after: int = _option(
        200, "Small files of a survey after which a run compacts them; 0 for never", ge=0, tuning=True
    )
    keep_hours: int = _option(
        0, "Hours that files replaced by a compaction are kept", ge=0, le=168, tuning=True
    )

    @property
    def modified_since(self) -> datetime | None:
        """The time that `since` means now, UTC."""
        if self.since is None:
            return None
        age = _AGE.fullmatch(self.since)
        return _before(datetime.now(UTC), age) if age else datetime.fromisoformat(self.since)

    @field_validator("gpus_per_task")
    @classmethod
    def _is_a_share_or_a_number(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("more than one GPU must be a whole number of them")
        return gpus

    @field_validator("gpus_per_task")
    @classmethod
    def _is_used_by_somebody(cls, gpus: float, info: ValidationInfo) -> float:
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


class NightlySettings(ScoreSettings):
    """How every survey below a root is scored, and what of it is announced."""

    rise: Share = _option(0.2, "Announce images whose probability rose by this much")


def _several(given: Any) -> Any:
    """Take one text, or paths, for a list of texts; a variable may hold a JSON list."""
    if isinstance(given, str) and given.startswith("["):
        return json.loads(given)
    if isinstance(given, str | Path):
        return [str(given)]
    return [str(each) for each in given] if isinstance(given, list | tuple) else given


class TrainSettings(ModelsSettings):
    """How a model is trained."""

    like: str | None = _option(
        None, "NAME@VERSION whose recipe is repeated; what is given here goes before it", unset="none"
    )
    mode: Mode | None = _option(
        None, "Train the head on frozen features, or most layers of the network", unset="frozen"
    )
    split: SplitKind | None = _option(
        None, "How 70:24:6 is divided: image by image, or by whole groups", unset="random"
    )
    group_by: str | None = _option(
        None,
        "Regular expression whose first ( ) in an image's path names its group; for the split grouped",
        unset="the manifest's column group, or near-duplicates",
    )
    positive: Annotated[list[str] | None, NoDecode, BeforeValidator(_several)] = _option(
        None,
        "The class that means crack, or SET=CLASS for one of several sets; repeatable",
        unset="by its name",
    )
    test: Annotated[list[str] | None, NoDecode, BeforeValidator(_several)] = _option(
        None, "Further labelled folder to evaluate on; repeatable", unset="none"
    )
    weights: Path | None = _option(
        None, "ImageNet weights of MobileNetV2 without its top, an .h5 file", unset="Keras' download"
    )
    features: Path | None = _option(
        None,
        "Folder that keeps features for the next training on the same pictures",
        unset="MODELS/.features",
    )
    epochs: Positive | None = _option(None, "Passes over the training images", unset="10")
    batch_size: Positive | None = _option(None, "Images a step", unset="16; 32 with the mode finetune")
    seed: int | None = _option(None, "Decides the split and the order of images", unset="0")
    workers: NonNegative | None = _option(
        None, "With the mode frozen: parallel feature threads or tasks; 0 for none", unset="all CPUs"
    )
    train_workers: NonNegative | None = _option(
        None, "With the mode finetune: processes that train together, on Ray", unset="this one alone"
    )
    target_recall: Annotated[float, Field(gt=0, le=1)] | None = _option(
        None, "Choose the threshold for this share of the cracks, such as 0.95", unset="best F1"
    )
    gpus_per_worker: Annotated[int, Field(ge=0, le=1)] = _option(0, "GPUs of each process of --train-workers")
    precision: Precision | None = _option(
        None, "With the mode finetune: mixed calculates in bfloat16", unset="float32"
    )
    int8: bool = _option(True, "Make an 8-bit model too; it is published only where its verdicts agree")
    promote: bool = _option(False, "Point the alias production at the new version, unless it is worse")


class EvaluateSettings(ModelsSettings):
    """How a model is measured on labelled images."""

    positive: str | None = _option(None, "The class that means crack", unset="by its name")
    group_by: str | None = _option(
        None,
        "Regular expression whose first ( ) in an image's path names its photograph or structure",
        unset="the manifest's column group",
    )
    out: Path | None = _option(
        None, "Folder for the page; an earlier evaluation there is replaced", unset="evaluation-MODEL-DATASET"
    )


class CompactSettings(ReportSettings):
    """How a report is compacted."""

    target_size: int = _option(64, "Size of files afterwards, MiB", ge=1)
    keep_hours: int = _option(
        0,
        "Hours that replaced files are kept for those who read earlier versions; meanwhile plain readers of "
        "Parquet folders count their rows twice",
        ge=0,
        le=168,
    )


class JobSettings(Settings):
    """How a command runs as a job of a cluster."""

    job_python: str = _option(
        sys.executable, "Interpreter on the cluster's head that has crackmodel", min_length=1
    )
