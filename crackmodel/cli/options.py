"""The options that the command line and the flows share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

DatasetsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATASET...", help="Folder with one folder of images per class, or a manifest; or several."
    ),
]
ModelNameOption = Annotated[
    str | None, typer.Option("--name", help="Name in the registry. [default: the folder's]")
]
LikeOption = Annotated[
    str | None,
    typer.Option(
        "--like", help="NAME@VERSION whose recipe is repeated; the options given here go before it."
    ),
]
ModeOption = Annotated[
    Literal["frozen", "finetune"] | None,
    typer.Option("--mode", help="Train the head on frozen features, or most layers. [default: frozen]"),
]
SplitOption = Annotated[
    Literal["random", "grouped"] | None,
    typer.Option(
        "--split", help="How 70:24:6 is divided: image by image, or by whole groups. [default: random]"
    ),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="Regular expression; its first group in an image's path names what stays together.",
    ),
]
PositiveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--positive",
        help="The class that means crack, or SET=CLASS for one of several sets; repeatable. "
        "[default: by its name]",
    ),
]
TestOption = Annotated[
    list[Path] | None, typer.Option("--test", help="Further labelled folder to evaluate on; repeatable.")
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="ImageNet weights of MobileNetV2 without top, an .h5 file.")
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Passes over the training images. [default: 10]")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Decides the split and the order of images. [default: 0]")
]
GpusPerWorkerOption = Annotated[
    int, typer.Option("--gpus-per-worker", help="GPUs of each training worker, 0 or 1; for --mode finetune.")
]
PrecisionOption = Annotated[
    Literal["float32", "mixed"] | None,
    typer.Option("--precision", help="For --mode finetune: mixed calculates in bfloat16. [default: float32]"),
]
TrainWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--train-workers", help="Processes that fine-tune together, on Ray. [default: this one alone]"
    ),
]
TargetRecallOption = Annotated[
    float | None,
    typer.Option(
        "--target-recall",
        help="Choose the threshold for this share of the cracks, such as 0.95. [default: best F1]",
    ),
]
Int8Option = Annotated[
    bool, typer.Option("--int8/--no-int8", help="Make an int8 model too; published where it passes.")
]
PromoteOption = Annotated[bool, typer.Option("--promote", help="Point the alias `production` at it.")]
SurveyArgument = Annotated[str, typer.Argument(help="Folder or s3://, gs://, abfss:// URI with photographs.")]
RootArgument = Annotated[
    str, typer.Argument(help="Folder or s3://, gs:// URI with a folder per survey, or a surveys.toml.")
]
RiseOption = Annotated[
    float, typer.Option("--rise", help="Tell images whose probability rose by this much.", min=0.0, max=1.0)
]
ReportOption = Annotated[
    str | None, typer.Option("--report", "-r", help="Folder or s3://, gs://, abfss:// URI. [default: report]")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="NAME, NAME@VERSION, NAME@ALIAS. [default: builtin]")
]
ModelsOption = Annotated[
    str | None,
    typer.Option("--models", help="Folder of the model registry; to score also a URI. [default: models]"),
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features", help="Folder that keeps features for the next training. [default: MODELS/.features]"
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="The survey's name in the report. [default: the folder's]")
]
TileOption = Annotated[int | None, typer.Option("--tile", help="Edge of a tile in pixels. [default: 227]")]
OverlapOption = Annotated[
    int | None, typer.Option("--overlap", help="Overlap of tiles in pixels. [default: 0]")
]
EngineOption = Annotated[
    Literal["litert", "litert-int8", "tensorflow"] | None,
    typer.Option("--engine", help="What runs the model. [default: litert]"),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Parallel tasks; 0 works in this process without Ray. [default: all CPUs]"
    ),
]
GpusPerTaskOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-task", help="GPUs of each task, or a share; for --engine tensorflow. [default: 0]"
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="Score at most this many images now. [default: all]")
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Score only files modified since a date (2026-11-01, 2026-11-01T18:00) or for 36h, 7d, 2w. "
        "[default: all]",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Score images again though the report holds them.")
]
MarkMissingOption = Annotated[
    bool,
    typer.Option(
        "--mark-missing", help="Let images that are gone from the survey count as vanished in the report."
    ),
]
RetryOption = Annotated[
    bool, typer.Option("--retry-rejected", help="Read rejected images again though unchanged.")
]
MaxRejectedOption = Annotated[
    int | None,
    typer.Option("--max-rejected", help="Exit with 3 if more images are rejected. [default: no limit]"),
]
NightMaxRejectedOption = Annotated[
    int | None,
    typer.Option(
        "--max-rejected",
        help="Let the night fail at its end if a survey has more rejected images. [default: no limit]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
