"""Ways to get probabilities for the same files with the same network, each measured on its own."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crackmodel.models.registry.registry import Registry
from crackmodel.scoring.run import score_survey
from crackmodel.scoring.run_events import Event, ShardCommitted
from crackmodel.surveys.tiling import cut_tiles, tile_grid
from tests.benchmarks.memory import ray_processes, usage

CORES = os.cpu_count() or 1
_SPAWN = mp.get_context("spawn")
_AT_ONCE_SECONDS = 0.1
"""Shards of one commit are told one after the other; they are one moment."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Tiles per second, and CPU microseconds of a tile, of processes that do nothing else."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """One run of `score_survey`.

    Attributes:
        rate: Tiles per second in the steady state, from the moment when every slot has committed a shard.
        whole_rate: Tiles per second of the whole run.
        fixed: Seconds of the run that its tiles do not explain.
        worker_cpu: CPU microseconds of the workers for a tile, in the steady state.
        driver_cpu: The same of the driver.
        service_cpu: The same of Ray's own processes.
        driver_mb: Largest resident set of this process.
        worker_mb: Largest resident set of a worker.
    """

    rate: float
    whole_rate: float
    fixed: float
    worker_cpu: float
    driver_cpu: float
    service_cpu: float
    driver_mb: float
    worker_mb: float

    @property
    def cpu(self) -> float:
        """CPU microseconds of a tile, everything counted."""
        return self.worker_cpu + self.driver_cpu + self.service_cpu


def measure_ceiling(files: Sequence[Path], model_file: str) -> Ceiling:
    """Decode, resize and run the engine in one bare process per core, files in memory."""
    barrier = _SPAWN.Barrier(CORES + 1)
    done: Any = _SPAWN.Queue()
    shares = [(files[core::CORES], model_file, barrier, done) for core in range(CORES)]
    processes = [_SPAWN.Process(target=_bare_loop, args=share) for share in shares]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    counted = [done.get() for _ in processes]
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    tiles = sum(number for number, _ in counted)
    return Ceiling(tiles / seconds, sum(cpu for _, cpu in counted) / tiles * 1e6)


def _bare_loop(files: Sequence[Path], model_file: str, barrier: Any, done: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter

    cv2.setNumThreads(1)
    model = Registry("models").resolve("builtin").read_file(model_file)
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    contents = [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
    tiles = 0
    barrier.wait()
    started = time.process_time()
    for content in contents:
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        for tile in cut_tiles(pixels, tile_grid(*pixels.shape[:2])):
            interpreter.tensor(source)()[0] = cv2.resize(tile, (160, 160))
            interpreter.invoke()
            interpreter.get_tensor(result)
            tiles += 1
    done.put((tiles, time.process_time() - started))


def measure_end_to_end(survey: Path, report: Path, engine: str, shard_images: int) -> EndToEnd:
    """Score a survey, Ray's start and end included, and look at every commit.

    What is in flight at the first and at the last commit that are compared is not seen, so there should be
    some dozens of shards.
    """
    watch = _Watch()
    result = score_survey(survey, report=report, engine=engine, shard_images=shard_images, on_event=watch)
    first = next(mark for mark in watch.marks if mark.shards >= CORES)
    last = [mark for mark in watch.marks if mark.workers_live][-1]
    tiles, seconds = last.tiles - first.tiles, last.time - first.time
    cpu = {kind: (last.cpu[kind] - first.cpu[kind]) / tiles * 1e6 for kind in last.cpu}
    rate = tiles / seconds
    used = usage()
    return EndToEnd(
        rate=rate,
        whole_rate=result.tiles / result.seconds,
        fixed=result.seconds - result.tiles / rate,
        worker_cpu=cpu["worker"],
        driver_cpu=cpu["driver"],
        service_cpu=cpu["service"],
        driver_mb=used.peak_mb if used else 0,
        worker_mb=watch.worker_mb,
    )


@dataclass(slots=True)
class _Mark:
    time: float
    shards: int
    tiles: int
    cpu: dict[str, float]
    workers_live: bool


class _Watch:
    """Notes time and CPU at every commit."""

    def __init__(self) -> None:
        self.marks: list[_Mark] = []
        self.worker_mb = 0.0
        self._kinds: dict[int, str] = {}

    def __call__(self, event: Event) -> None:
        if not isinstance(event, ShardCommitted):
            return
        now = time.perf_counter()
        shards, tiles = (self.marks[-1].shards, self.marks[-1].tiles) if self.marks else (0, 0)
        if self.marks and now - self.marks[-1].time < _AT_ONCE_SECONDS:
            self.marks.pop()
        if shards <= CORES:  # later no worker is new, and to look for them takes time
            self._kinds = {pid: kind for pid, (kind, _) in ray_processes().items()}
        seen = {pid: usage(pid) for pid in (*self._kinds, os.getpid())}
        cpu = dict.fromkeys(("driver", "worker", "service"), 0.0)
        for pid, used in seen.items():
            if used is not None:
                kind = self._kinds.get(pid, "driver")
                cpu[kind] += used.cpu_seconds
                if kind == "worker":
                    self.worker_mb = max(self.worker_mb, used.peak_mb)
        # The last commit may come when Ray has ended, and the time that this takes is no tile's.
        self.marks.append(_Mark(now, shards + 1, tiles + event.tiles, cpu, None not in seen.values()))


def measure_keras(survey: Path) -> dict[str, float]:
    """Of `keras predict` over `image_dataset_from_directory`, its start not counted.

    Returns:
        `rate`, images per second, and `cpu`, CPU microseconds of an image.
    """
    return _in_a_process("keras", str(survey))


def measure_ray_data(survey: Path, out: Path) -> dict[str, float]:
    """Of a Ray Data pipeline like `measure_keras`, its execution alone; `whole` with Ray's start."""
    return _in_a_process("ray-data", str(survey), str(out))


def _in_a_process(*arguments: str) -> dict[str, float]:
    """TensorFlow must not be in the process that scores."""
    command = [sys.executable, "-m", "tests.benchmarks.rivals", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer
