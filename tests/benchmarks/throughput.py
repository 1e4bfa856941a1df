"""How fast scoring is, as ratios measured in one run: `make bench`.

Three ways to get probabilities for the same files with the same network, one after the other:

- the ceiling: OpenCV's decoder and resize and LiteRT in one bare process per core, files in memory;
- `score_survey`, end to end: listing, Ray, rows, Parquet, Delta commits, reconciliation;
- `keras predict` over `image_dataset_from_directory`, as most people would begin.

Absolute figures belong to a machine and its load; only the ratios travel.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crackmodel.models.registry import Registry
from crackmodel.scoring.events import Event, ShardCommitted
from crackmodel.scoring.run import score_survey
from crackmodel.surveys.sample import write_sample
from crackmodel.surveys.tiles import cut_tiles, tile_grid

CORES = os.cpu_count() or 1
PATCHES = 6_000
_SPAWN = mp.get_context("spawn")
_DATA = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))


def main() -> None:
    """Measure and print one Markdown table."""
    print(f"{platform.processor() or platform.machine()}, {CORES} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | tiles/s | of the ceiling | to keras predict |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, survey in _surveys(Path(folder)).items():
            files = sorted(path for path in survey.rglob("*") if path.is_file())
            ceiling = _ceiling(files)
            steady, wall, fixed = _end_to_end(survey, Path(folder) / f"report-{name}")
            keras = _keras(survey) if name == "patches" else None
            _row(f"{name}: decode + resize + engine alone", ceiling, ceiling, keras)
            _row(f"{name}: end to end, steady state", steady, ceiling, keras)
            _row(f"{name}: end to end, all of the run ({fixed:.1f} s fixed)", wall, ceiling, keras)
            if keras:
                _row(f"{name}: keras predict over files", keras, ceiling, keras)


def _row(what: str, rate: float, ceiling: float, keras: float | None) -> None:
    against_keras = f"{rate / keras:.2f}x" if keras else ""
    print(f"| {what} | {rate:,.0f} | {rate / ceiling:.0%} | {against_keras} |", flush=True)


def _surveys(folder: Path) -> dict[str, Path]:
    """Real patches and photographs where they are at hand, else drawn ones."""
    patches, photographs = folder / "patches", folder / "photographs"
    if _DATA.is_dir():
        every_patch = sorted((_DATA / "metu" / "train").rglob("*.jpg"), key=lambda path: path.name)
        _link(every_patch[:PATCHES], patches)
        shots = sorted((_DATA / "survey_photos" / "caliterra").glob("*.jpg"))
        _link(shots, photographs)
        return {"patches": patches, "photographs": photographs}
    print(f"no real images in {_DATA}: measuring drawn ones", file=sys.stderr)
    drawn = write_sample(folder / "drawn").directory
    large = max((cv2.imread(str(path)) for path in drawn.glob("*.jpg")), key=np.size)
    patches.mkdir()
    for number, tile in enumerate(cut_tiles(large, tile_grid(*large.shape[:2]))):
        cv2.imwrite(str(patches / f"{number:05}.jpg"), tile)
    return {"patches": patches}


def _link(files: Sequence[Path], folder: Path) -> None:
    for number, file in enumerate(files):
        target = folder / file.parent.name / f"{number:05}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _ceiling(files: Sequence[Path]) -> float:
    """Tiles per second of bare processes that do nothing else."""
    barrier = _SPAWN.Barrier(CORES + 1)
    done: Any = _SPAWN.Queue()
    processes = [
        _SPAWN.Process(target=_bare_loop, args=(files[core::CORES], barrier, done)) for core in range(CORES)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    tiles = sum(done.get() for _ in processes)
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return float(tiles / seconds)


def _bare_loop(files: Sequence[Path], barrier: Any, done: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter

    cv2.setNumThreads(1)
    model = Registry(Path("models")).resolve("builtin").read_file("model.tflite")
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    contents = [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
    tiles = 0
    barrier.wait()
    for content in contents:
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        for tile in cut_tiles(pixels, tile_grid(*pixels.shape[:2])):
            interpreter.tensor(source)()[0] = cv2.resize(tile, (160, 160))
            interpreter.invoke()
            interpreter.get_tensor(result)
            tiles += 1
    done.put(tiles)


def _end_to_end(survey: Path, report: Path) -> tuple[float, float, float]:
    """Tiles per second in the steady state and of the whole run, and the run's fixed seconds.

    The steady state begins when every slot has committed one shard: Ray has started and engines are
    loaded.
    """
    moments: list[tuple[float, int]] = []

    def listen(event: Event) -> None:
        if isinstance(event, ShardCommitted):
            moments.append((time.perf_counter(), event.tiles))

    result = score_survey(survey, report=report, shard_images=250, on_event=listen)
    first, last = moments[CORES - 1][0], moments[-1][0]
    steady = sum(tiles for _, tiles in moments[CORES:]) / (last - first)
    return steady, result.tiles / result.seconds, result.seconds - result.tiles / steady


def _keras(survey: Path) -> float:
    rates: Any = _SPAWN.Queue()
    process = _SPAWN.Process(target=_keras_loop, args=(survey, rates))
    process.start()
    rate = float(rates.get())
    process.join()
    return rate


def _keras_loop(survey: Path, rates: Any) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import keras

    from crackmodel.models.network import build_network

    weights = next((_DATA / "weights").glob("*.h5"), None)
    network = build_network(weights)  # the layers of the model that ships; speed does not depend on values
    data = keras.utils.image_dataset_from_directory(
        survey, image_size=(160, 160), batch_size=32, shuffle=False, verbose=False
    )
    network.predict(data.take(2), verbose=0)
    started = time.perf_counter()
    predicted = network.predict(data, verbose=0)
    rates.put(len(predicted) / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
