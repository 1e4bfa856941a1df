"""The options that the command line and the flows share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SurveyArgument = Annotated[str, typer.Argument(help="Folder or s3://, gs:// URI with photographs.")]
ReportOption = Annotated[
    str | None, typer.Option("--report", "-r", help="Folder or s3://, gs:// URI. [default: report]")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="NAME, NAME@VERSION, NAME@ALIAS. [default: builtin]")
]
ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="Folder of the model registry. [default: models]")
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
    str | None, typer.Option("--engine", help="litert, litert-int8 or tensorflow. [default: litert]")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Parallel tasks; 0 works in this process without Ray. [default: all CPUs]"
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="Score at most this many images now. [default: all]")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-rejected", help="Read rejected images again though unchanged.")
]
MaxRejectedOption = Annotated[
    int | None,
    typer.Option("--max-rejected", help="Exit with 3 if more images are rejected. [default: no limit]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
