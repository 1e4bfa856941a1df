"""Which share of its time fine-tuning waits for its next batch: `python -m tests.benchmarks.training_input`.

The same steps three times: batches made when they are asked for, and one or two ahead. Weights are random:
how long a step takes does not depend on them. The first steps, which compile, are not counted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crackmodel.models.datasets.labelled import find_images
from crackmodel.models.network import (
    attach_head,
    build_backbone,
    build_head,
)
from crackmodel.models.training import finetuning, tile_batches

STEPS, WARM_UP, BATCH = 30, 6, 32
_DATA = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))


def main() -> None:
    """Measure and print one Markdown table."""
    if not _DATA.is_dir():
        sys.exit(f"There are no real images in {_DATA}: set CRACKMODEL_TEST_DATA.")
    images = find_images(_DATA / "metu" / "train")
    rows = np.random.default_rng(0).permutation(len(images.files))[: STEPS * BATCH]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| batches made | waiting for a batch | seconds a step |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiles.npy"
        tiles = tile_batches.map_tiles(images.root, [images.files[row] for row in rows], path).tiles
        for ahead, name in ((0, "when asked for"), (1, "1 ahead"), (2, "2 ahead")):
            waited, seconds = _measure(tiles, images.labels[rows], ahead)
            print(f"| {name} | {waited:.1%} | {seconds:.2f} |", flush=True)


def _measure(tiles: Any, labels: Any, ahead: int) -> tuple[float, float]:
    """The share of an epoch's time that is waiting, and the seconds of a step."""
    moments: list[tuple[float, float]] = []

    def timed(make: Callable[[Any], Any], jobs: Any) -> Iterator[Any]:
        batches = tile_batches.prefetched(make, jobs, ahead)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            moments.append((asked, time.perf_counter()))
            yield batch

    finetuning.prefetched = timed  # type: ignore[assignment]
    rows = np.arange(len(tiles))
    recipe = finetuning.FinetuneRecipe(epochs=1, batch_size=BATCH)
    examples = finetuning.Examples(tiles, labels, rows, rows[:2], recipe, seed=0)
    finetuning.finetune(attach_head(build_backbone(None), build_head()), examples, lambda _: None)
    counted = moments[WARM_UP:STEPS]
    whole = counted[-1][0] - counted[0][0]
    return sum(got - asked for asked, got in counted[:-1]) / whole, whole / (len(counted) - 1)


if __name__ == "__main__":
    main()
