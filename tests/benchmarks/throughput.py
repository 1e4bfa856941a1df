"""How fast scoring is, as ratios measured in one run: `make bench`.

The same files by the same network in several ways, in turns, and the median of each:

- the ceiling: OpenCV's decoder and resize and LiteRT in one bare process per core, files in memory;
- `score_survey`, end to end: listing, Ray, rows, Parquet, Delta commits, reconciliation;
- `keras predict` over `image_dataset_from_directory`, as most people would begin;
- a Ray Data pipeline of `read_images`, Keras in actors and `write_parquet`.

Absolute figures belong to a machine and its load; only the ratios travel, and where other work runs beside,
those of CPU time more than those of wall time.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from crackmodel.surveys.sample import write_sample
from crackmodel.surveys.tiling import cut_tiles, tile_grid
from tests.benchmarks.contestants import (
    CORES,
    Ceiling,
    EndToEnd,
    measure_ceiling,
    measure_end_to_end,
    measure_keras,
    measure_ray_data,
)

ENGINES = {"litert": "model.tflite", "litert-int8": "model-int8.tflite"}
SHARD_IMAGES = {"patches": 500, "photographs": 2}
_DATA = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--patches", type=int, default=32_000, help="how many patches are scored")
    parser.add_argument("--without-rivals", action="store_true", help="neither Keras nor Ray Data")
    options = parser.parse_args()
    print(f"{_processor()}, {CORES} cores, Python {platform.python_version()}, load {_load()}\n")
    rows: dict[str, tuple[Ceiling, EndToEnd]] = {}
    rivals: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, survey in surveys(Path(folder), options.patches).items():
            for engine in ENGINES:
                rows[f"{name}, {engine}"] = _in_turns(survey, Path(folder), engine, options.rounds)
                print(f"{name}, {engine}: measured, load {_load()}", file=sys.stderr, flush=True)
            if name == "patches" and not options.without_rivals:
                rivals["`keras predict` over files"] = measure_keras(survey)
                rivals["Ray Data, Keras in actors"] = measure_ray_data(survey, Path(folder) / "rival")
    _print_ours(rows)
    _print_rivals(rivals, rows)
    print(f"\nload at the end {_load()}")


def _in_turns(survey: Path, folder: Path, engine: str, rounds: int) -> tuple[Ceiling, EndToEnd]:
    """Measure ceiling and run in turns, so that a load that comes and goes meets both."""
    files = sorted(path for path in survey.rglob("*") if path.is_file())
    ceilings, runs = [], []
    for number in range(rounds):
        ceilings.append(measure_ceiling(files, ENGINES[engine]))
        report = folder / f"report-{survey.name}-{engine}-{number}"
        runs.append(measure_end_to_end(survey, report, engine, SHARD_IMAGES[survey.name]))
    ceiling = Ceiling(*(median(getattr(one, name) for one in ceilings) for name in Ceiling.__slots__))
    return ceiling, EndToEnd(*(median(getattr(one, name) for one in runs) for name in EndToEnd.__slots__))


def _print_ours(rows: dict[str, tuple[Ceiling, EndToEnd]]) -> None:
    print(
        "| tiles/s | ceiling | steady state | of the ceiling | of the ceiling by CPU time | all of the run |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, (ceiling, ours) in rows.items():
        print(
            f"| {name} | {ceiling.rate:,.0f} | {ours.rate:,.0f} | {ours.rate / ceiling.rate:.0%} "
            f"| {ceiling.cpu / ours.cpu:.0%} | {ours.whole_rate:,.0f} ({ours.fixed:.1f} s fixed) |"
        )
    print("\n| CPU us of a tile | ceiling | workers | driver | Ray's services | worker MB | driver MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, (ceiling, ours) in rows.items():
        print(
            f"| {name} | {ceiling.cpu:,.0f} | {ours.worker_cpu:,.0f} | {ours.driver_cpu:,.0f} "
            f"| {ours.service_cpu:,.0f} | {ours.worker_mb:.0f} | {ours.driver_mb:.0f} |"
        )


def _print_rivals(rivals: dict[str, dict[str, float]], rows: dict[str, tuple[Ceiling, EndToEnd]]) -> None:
    if not rivals:
        return
    ours = [rows[f"patches, {engine}"][1] for engine in ENGINES]
    print("\n| patches | images/s | CPU us | fp32 is faster | int8 is | fp32 by CPU time | int8 by it |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, rival in rivals.items():
        ratios = [one.rate / rival["rate"] for one in ours] + [rival["cpu"] / one.cpu for one in ours]
        cells = " | ".join(f"{ratio:.1f}x" for ratio in ratios)
        print(f"| {name} | {rival['rate']:,.0f} | {rival['cpu']:,.0f} | {cells} |")
        if "whole" in rival:
            whole = " | ".join(f"{one.whole_rate / rival['whole']:.1f}x" for one in ours)
            print(f"| the same, both with Ray's start | {rival['whole']:,.0f} | | {whole} | | |")


def surveys(folder: Path, count: int) -> dict[str, Path]:
    """Real patches and photographs where they are at hand, else drawn ones."""
    patches, photographs = folder / "patches", folder / "photographs"
    if _DATA.is_dir():
        every_patch = sorted((_DATA / "metu" / "train").rglob("*.jpg"), key=lambda path: path.name)
        _copy(list(islice(cycle(every_patch), count)), patches)
        shots = sorted((_DATA / "survey_photos" / "caliterra").glob("*.jpg"))
        _copy(shots * 8, photographs)
        return {"patches": patches, "photographs": photographs}
    print(f"no real images in {_DATA}: measuring drawn ones", file=sys.stderr)
    drawn = write_sample(folder / "drawn").directory
    large = max((cv2.imread(str(path)) for path in drawn.rglob("*.jpg")), key=np.size)
    patches.mkdir()
    for number, tile in enumerate(cut_tiles(large, tile_grid(*large.shape[:2]))):
        cv2.imwrite(str(patches / f"{number:05}.jpg"), tile)
    return {"patches": patches}


def _copy(files: Sequence[Path], folder: Path) -> None:
    for number, file in enumerate(files):
        target = folder / file.parent.name / f"{number:05}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
