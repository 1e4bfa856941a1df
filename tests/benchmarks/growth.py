"""How time and memory grow with the number of images: `python -m tests.benchmarks.growth`.

The engine and the decoder are replaced by nothing, so that what is left is what a run costs besides: listing,
the comparison with the report, shards, Ray, Parquet files, commits and the reconciliation. Every size is run
three nights in a row, each in a process of its own: all images new, 1,000 more, nothing new.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from crackmodel.arrow_memory import keep_arrow_small
from crackmodel.reports.table import ReportTable
from crackmodel.scoring import run
from crackmodel.scoring.driver import committing, dispatch
from crackmodel.scoring.plan import Shard
from crackmodel.scoring.task import ScoringJob, ShardResult
from crackmodel.scoring.worker.rows import common_columns, write_rows
from crackmodel.scoring.worker.stages import StageWatch
from crackmodel.surveys.listing import LISTING_SCHEMA, Listing, Survey, list_survey
from tests.benchmarks.committing import commits
from tests.benchmarks.memory import forget_peak, ray_processes, usage

SIZES = (10_000, 100_000, 1_000_000)
NEW = 1_000
COMMITTED = (1_000, 5_000, 20_000)
REAL_FILES = (10_000, 100_000)
_AS_THE_COMMAND_LINE = """
import runpy
from crackmodel.arrow_memory import keep_arrow_small
keep_arrow_small()
runpy.run_module("tests.benchmarks.growth", run_name="__main__", alter_sys=True)
"""
BETWEEN = "Ray, and the rest"
_BYTES = 5_000_000
_STAGES = {
    "open": (ReportTable, "open_or_create"),
    "orphans": (run, "delete_orphans"),
    "anti-join": (run, "pending"),
    "commit": (ReportTable, "commit"),
    "reconcile": (run, "count_missing"),
    "count": (run, "count_rows"),
    "top": (run, "top_images"),
}


def main() -> None:
    """Measure and print Markdown tables."""
    options = _options()
    if options.one:
        print(json.dumps(night(options.one, options.workers, Path(options.folder))))
        return
    if options.walk:
        print(json.dumps(walk(options.walk, Path(options.folder))))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, shards of 500\n")
    print("| files walked | seconds | us per file | peak MB | MB above an empty process |")
    print("|---:|---:|---:|---:|---:|")
    for files in options.files:
        with tempfile.TemporaryDirectory() as folder:
            seen = _apart("--walk", files, options.workers, folder)
        each = f"{seen['seconds'] / files * 1e6:.1f}"
        print(
            f"| {files:,} | {seen['seconds']:.2f} | {each} | {seen['peak']:.0f} | {seen['more']:.0f} |",
            flush=True,
        )
    print("\n| files in the report | ms a commit of 16 | CPU ms | seconds to open | peak MB |")
    print("|---:|---:|---:|---:|---:|")
    if options.commits:
        with tempfile.TemporaryDirectory() as folder:
            for row in commits(options.commits, Path(folder)):
                print("| {:,} | {:.0f} | {:.0f} | {:.2f} | {:.0f} |".format(*row), flush=True)
    for images in options.images:
        print(f"\n{images:,} images, seconds (largest MB of the driver during it)\n")
        with tempfile.TemporaryDirectory() as folder:
            seen = {
                name: _apart("--one", images + more, options.workers, folder)
                for name, more in (("all new", 0), (f"{NEW:,} new", NEW), ("nothing new", NEW))
            }
        names = list(dict.fromkeys(name for one in seen.values() for name in one["stages"]))
        print("| stage | " + " | ".join(seen) + " |\n|---|" + "---:|" * len(seen))
        for name in names:
            cells = [one["stages"].get(name) for one in seen.values()]
            print(f"| {name} | " + " | ".join(f"{c[0]:.2f} ({c[1]:.0f})" if c else "" for c in cells) + " |")
        for name in ("seconds", "driver CPU", "Ray's services CPU", "workers CPU", "files", "worker MB"):
            print(f"| {name} | " + " | ".join(f"{one[name]:,.1f}" for one in seen.values()) + " |")
        sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=SIZES)
    parser.add_argument("--files", type=int, nargs="*", default=REAL_FILES)
    parser.add_argument("--commits", type=int, nargs="*", default=COMMITTED)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--walk", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def _apart(what: str, number: int, workers: int, folder: str) -> dict[str, Any]:
    """Measure in a new process, as every run is one: what was resident once stays so."""
    command = [sys.executable, "-c", _AS_THE_COMMAND_LINE, what, str(number)]
    command += ["--folder", folder, "--workers", str(workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def walk(files: int, folder: Path) -> dict[str, float]:
    """List real files of one byte, 1,000 to a folder."""
    for start in range(0, files, 1_000):
        (folder / f"{start:07}").mkdir()
        for number in range(start, min(start + 1_000, files)):
            (folder / f"{start:07}" / f"IMG_{number:07}.JPG").write_bytes(b"x")
    forget_peak()
    before, started = _peak(), time.perf_counter()
    listing = list_survey(Survey.parse(folder))
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    folder.mkdir()
    if listing.files.num_rows != files:
        raise RuntimeError(f"{listing.files.num_rows} files listed, {files} made")
    return {"seconds": seconds, "peak": _peak(), "more": _peak() - before}


def made_up_listing(images: int, folder: Path) -> Listing:
    """A listing as `list_survey` returns it, of photographs that do not exist."""
    names = pa.chunked_array(
        [
            [
                f"deck-{number // 1000:05}/IMG_{number:08}.JPG"
                for number in range(start, min(start + 65_536, images))
            ]
            for start in range(0, images, 65_536)
        ],
        LISTING_SCHEMA.types[0],
    ).combine_chunks()
    sizes = pa.array(_BYTES + np.arange(images) % 1000, pa.int64())
    times = pa.array(np.full(images, 1_780_000_000_000_000), pa.int64()).cast(LISTING_SCHEMA.types[2])
    files = pa.Table.from_arrays([names, sizes, times], schema=LISTING_SCHEMA)
    pa.default_memory_pool().release_unused()
    return Listing(Survey.parse(folder, "bridge"), files, hidden=0, outside=0)


def score_nothing(job: ScoringJob, shard: Shard) -> ShardResult:
    """What a worker does without reading, decoding and the model: rows and their Parquet file."""
    keep_arrow_small()
    answer = {
        **dict.fromkeys(["tile_rows", "tile_columns"], 1),
        **dict.fromkeys(["width", "height", "tile_size"], 227),
        "sha256": "0" * 64,
        "tile_overlap": 0,
        "tile_probabilities": np.full(1, 0.25, np.float32),
        "crack_probability": np.float32(0.25),
        "crack_fraction": np.float32(0),
        "verdict": "clear",
        "scored_at": datetime.now(UTC),
    }
    rows = [common_columns(job) | listed._asdict() | answer for listed in shard.files]
    return write_rows(job, shard, rows, time.monotonic(), StageWatch())


def night(images: int, workers: int, folder: Path) -> dict[str, Any]:
    """Run once over a made-up listing and say what each stage took."""
    stages = Stages()
    at_end: dict[str, float] = {}
    listing = made_up_listing(images, folder)
    with _instead_of_scoring(listing, stages, at_end, workers):
        before, started = usage(), time.perf_counter()
        result = run.score_survey(
            folder, report=folder / "report", workers=workers, shard_images=500, shard_bytes=2**40
        )
        seconds, after = time.perf_counter() - started, usage()
    stages.between(seconds)
    if before is None or after is None:
        raise RuntimeError("this system has no /proc")
    return {
        "stages": stages.seen,
        "seconds": seconds,
        "driver CPU": after.cpu_seconds - before.cpu_seconds,
        "Ray's services CPU": at_end.get("service", 0.0),
        "workers CPU": at_end.get("worker", 0.0),
        "worker MB": at_end.get("worker MB", 0.0),
        "files": len(list((folder / "report" / "survey=bridge").glob("*.parquet"))),
        "scored": result.scored,
    }


class Stages:
    """Seconds and the driver's largest resident set, by stage."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[float, float]] = {}

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Count what the block takes to a stage."""
        self._end(BETWEEN, 0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._end(name, time.perf_counter() - started)

    def between(self, seconds: float) -> None:
        """Say what a run took in all: the rest belongs to no stage."""
        self._end(BETWEEN, 0.0)
        named = sum(taken for name, (taken, _) in self.seen.items() if name != BETWEEN)
        self.seen[BETWEEN] = (seconds - named, self.seen.pop(BETWEEN)[1])

    def _end(self, name: str, seconds: float) -> None:
        so_far, peak = self.seen.get(name, (0.0, 0.0))
        self.seen[name] = (so_far + seconds, max(peak, _peak()))
        forget_peak()

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.measured(name):
                return function(*args, **kwargs)

        return counted


@contextmanager
def _instead_of_scoring(
    listing: Listing, stages: Stages, at_end: dict[str, float], workers: int
) -> Iterator[None]:
    """Replace what lists and what scores, and count everything else."""

    def planned(*args: Any, **kwargs: Any) -> Iterator[Shard]:
        shards = plan(*args, **kwargs)
        take = stages.wrapped("shards cut", lambda: next(shards, None))
        while (shard := take()) is not None:
            yield shard

    def with_ray(*arguments: Any) -> dispatch.Results:
        for number, shard in enumerate(on_ray(*arguments)):
            if number % 100 == 0:
                _note(at_end)
            yield shard
        # Ray has ended here.

    plan, on_ray = dispatch.plan_shards, dispatch.scored_on_ray
    patches = [
        mock.patch.object(run, "list_survey", return_value=listing),
        mock.patch.object(committing, "scored_on_ray", with_ray),
        mock.patch.object(committing, "publish_shard", stages.wrapped("publish", committing.publish_shard)),
        mock.patch.object(dispatch, "plan_shards", planned),
        mock.patch.object(dispatch, "_score_shard_task", score_nothing),
    ]
    if workers == 0:  # else it stays out of this process, as it does when `crackmodel score` runs
        patches.append(mock.patch("crackmodel.scoring.worker.shard.score_shard", score_nothing))
    for name, (owner, function) in _STAGES.items():
        counted = stages.wrapped(name, getattr(owner, function))
        patches.append(mock.patch.object(owner, function, counted))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        mock.patch.stopall()


def _note(at_end: dict[str, float]) -> None:
    """Remember what Ray's processes have used so far."""
    seen = ray_processes().values()
    for kind in ("service", "worker"):
        at_end[kind] = sum(used.cpu_seconds for what, used in seen if what == kind)
    at_end["worker MB"] = max((used.peak_mb for what, used in seen if what == "worker"), default=0)


def _peak() -> float:
    used = usage()
    return used.peak_mb if used else 0.0


if __name__ == "__main__":
    main()
