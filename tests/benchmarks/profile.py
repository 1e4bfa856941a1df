"""Where the time of a tile goes, and what other layouts would cost: `python -m tests.benchmarks.profile`.

In one process without Ray and on one core, where nothing else is said, on the same files as `throughput`.
What counts is the quickest of several rounds: what makes another one slower is not the code.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pyarrow as pa

from crackmodel.models.inference.engines import LiteRTModel, silence_litert_banner
from crackmodel.models.inference.model_file import read_model_file
from crackmodel.models.registry.registry import Registry
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.plan import ListedFile, Shard
from crackmodel.scoring.task import ScoringJob
from crackmodel.scoring.worker import fetching
from crackmodel.scoring.worker.shard import score_shard
from crackmodel.scoring.worker.stages import STAGES
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import Survey
from crackmodel.surveys.tiling import cut_tiles, tile_grid
from tests.benchmarks.contestants import CORES, measure_ceiling
from tests.benchmarks.throughput import ENGINES, surveys

_BARE = {"decode": "decode", "tile": "resize", "engine": "engine"}
_AT_ONCE = (1, 2, 4, 8, 16, 32)
_READERS = (1, 2, 4)


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="how often each is measured")
    parser.add_argument("--patches", type=int, default=500, help="how many patches are scored")
    parser.add_argument("--photographs", type=int, default=4, help="how many photographs")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}, the quickest of {options.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        for name, survey in surveys(Path(folder), options.patches).items():
            files = sorted(path for path in survey.rglob("*") if path.is_file())
            files = files[: options.photographs] if name == "photographs" else files
            for engine in ENGINES:
                _print_stages(f"{name}, {engine}", survey, files, engine, options.rounds)
            if name == "patches":
                _print_readers(survey, files, options.rounds)
                _print_layouts(files, options.rounds)
    _print_batches(options.rounds)


def _print_stages(title: str, survey: Path, files: Sequence[Path], engine: str, rounds: int) -> None:
    bare = [_bare(files, engine) for _ in range(rounds)]
    ours = [_scored(survey, files, engine) for _ in range(rounds)]
    print(
        f"| {title}: us of a tile | decode, resize and engine alone | as a worker does it |\n|---|---:|---:|"
    )
    for stage in STAGES:
        alone = f"{min(one[_BARE[stage]] for one in bare):.0f}" if stage in _BARE else ""
        print(f"| {stage} | {alone} | {min(one[stage] for one in ours):.0f} |")
    least, taken = (min(map(_all, runs)) for runs in (bare, ours))
    print(f"| all | {least:.0f} | {taken:.0f} |\n\n{least / taken:.0%} of it alone\n", flush=True)


def _all(parts: dict[str, float]) -> float:
    return sum(parts.values())


def _bare(files: Sequence[Path], engine: str) -> dict[str, float]:
    """Microseconds of a tile, by part, of a loop that does nothing else."""
    interpreter = _interpreter(ENGINES[engine])
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    contents = [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
    parts, tiles = dict.fromkeys(_BARE.values(), 0.0), 0
    for content in contents:
        begun = time.perf_counter()
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        parts["decode"] += time.perf_counter() - begun
        for tile in cut_tiles(pixels, tile_grid(*pixels.shape[:2])):
            begun = time.perf_counter()
            small = cv2.resize(tile, (160, 160))
            resized = time.perf_counter()
            interpreter.tensor(source)()[0] = small
            interpreter.invoke()
            interpreter.get_tensor(result)
            parts["engine"] += time.perf_counter() - resized
            parts["resize"] += resized - begun
            tiles += 1
    return {name: seconds / tiles * 1e6 for name, seconds in parts.items()}


def _scored(survey: Path, files: Sequence[Path], engine: str) -> dict[str, float]:
    """Microseconds of a tile, by stage, of what a worker does with one shard."""
    listed = tuple(
        ListedFile(
            str(file.relative_to(survey)),
            file.stat().st_size,
            datetime.fromtimestamp(file.stat().st_mtime, UTC),
        )
        for file in files
    )
    with tempfile.TemporaryDirectory() as folder:
        ReportTable.open_or_create(folder)
        result = score_shard(_job(survey, folder, engine), Shard(0, listed))
    return {name: seconds / result.tiles * 1e6 for name, seconds in result.stages.items()}


def _job(survey: Path, report: str, engine: str) -> ScoringJob:
    return ScoringJob(
        run_id="profile",
        survey=Survey.parse(survey, "profile"),
        report=Location.parse(report),
        model=read_model_file(Registry("models").resolve("builtin"), engine),
        settings=ScoreSettings.read(engine=engine, image_seconds=60.0),
    )


def _print_readers(survey: Path, files: Sequence[Path], rounds: int) -> None:
    print("| threads that read ahead, from a disk | us of a patch, int8 |\n|---:|---:|")
    for threads in _READERS:
        pace = replace(fetching._DISK, threads=threads, groups_ahead=threads)
        with mock.patch.object(fetching, "_DISK", pace):
            taken = min(_all(_scored(survey, files, "litert-int8")) for _ in range(rounds))
        print(f"| {threads} | {taken:.0f} |", flush=True)


def _print_layouts(files: Sequence[Path], rounds: int) -> None:
    """One process a core against one that has all threads, by decode, resize and engine alone."""
    print("\n| patches/s on all cores | one thread in a process a core | all threads in one process |")
    print("|---|---:|---:|")
    for engine, file in ENGINES.items():
        apart = max(measure_ceiling(files * 4, file).rate for _ in range(3))
        together = max(_threaded(files, file) for _ in range(rounds))
        print(f"| {engine} | {apart:,.0f} | {together:,.0f} |", flush=True)


def _threaded(files: Sequence[Path], model_file: str) -> float:
    model = LiteRTModel(Registry("models").resolve("builtin").read_file(model_file), threads=CORES)
    contents = [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
    begun = time.perf_counter()
    for content in contents:
        model.run(cv2.resize(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), (160, 160))[None])
    return len(files) / (time.perf_counter() - begun)


def _print_batches(rounds: int) -> None:
    print("\n| tiles of an invocation | " + " | ".join(map(str, _AT_ONCE)) + " |")
    print("|---|" + "---:|" * len(_AT_ONCE))
    for engine, file in ENGINES.items():
        print(
            f"| {engine}, us of a tile | "
            + " | ".join(f"{_batch(file, n, rounds):.0f}" for n in _AT_ONCE)
            + " |"
        )


def _batch(model_file: str, tiles: int, rounds: int) -> float:
    interpreter = _interpreter(model_file)
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, [tiles, 160, 160, 3])
    interpreter.allocate_tensors()
    noise = np.random.default_rng(7).integers(0, 256, (tiles, 160, 160, 3)).astype(np.float32)
    interpreter.set_tensor(entry, noise)
    return _quickest(interpreter.invoke, max(1, 64 // tiles), rounds) / tiles * 1e6


def _quickest(what: Callable[[], Any], times: int, rounds: int) -> float:
    """Seconds of one call, in the quickest round of some calls."""
    what()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(times):
            what()
        seconds.append((time.perf_counter() - begun) / times)
    return min(seconds)


def _interpreter(model_file: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with silence_litert_banner():
        content = Registry("models").resolve("builtin").read_file(model_file)
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


if __name__ == "__main__":
    main()
