"""The same network by Keras, alone and under Ray Data: started by `throughput` in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import ray_processes, usage

CORES = os.cpu_count() or 1


def main() -> None:
    """Measure one rival and print JSON."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    which, survey, *more = sys.argv[1:]
    answer = keras_predict(Path(survey)) if which == "keras" else ray_data(Path(survey), Path(more[0]))
    print(json.dumps(answer), flush=True)


def keras_predict(survey: Path) -> dict[str, float]:
    """As most people would begin."""
    import keras

    network = _network()
    data = keras.utils.image_dataset_from_directory(
        survey, image_size=(160, 160), batch_size=32, shuffle=False, verbose=False
    )
    network.predict(data.take(2), verbose=0)
    started, cpu = time.perf_counter(), time.process_time()
    predicted = network.predict(data, verbose=0)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    return {"rate": len(predicted) / seconds, "cpu": used / len(predicted) * 1e6}


class KerasActor:
    """What `map_batches` runs: one network per core."""

    def __init__(self) -> None:
        self._network = _network()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Replace the pixels of a batch by the probabilities of a crack."""
        probabilities = self._network.predict(batch["image"], verbose=0)
        return {"path": batch["path"], "crack_probability": probabilities[:, 1]}


def ray_data(survey: Path, out: Path) -> dict[str, float]:
    """The pipeline that Ray's own guide to batch inference shows.

    Ray is told of twice the cores, or the actors take all of them and no file is ever read.
    """
    began = time.perf_counter()
    import ray

    os.environ["CRACKMODEL_TEST_DATA"] = str(
        Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data")).resolve()
    )
    ray.init("local", num_cpus=2 * CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    started, before = time.perf_counter(), _cpu_seconds()
    images = ray.data.read_images(str(survey), size=(160, 160), mode="RGB", include_paths=True)
    scored = images.map_batches(KerasActor, concurrency=CORES, batch_size=32)
    scored.write_parquet(str(out))
    ended, used = time.perf_counter(), _cpu_seconds() - before
    rows = ray.data.read_parquet(str(out)).count()
    ray.shutdown()
    return {"rate": rows / (ended - started), "whole": rows / (ended - began), "cpu": used / rows * 1e6}


def _cpu_seconds() -> float:
    """What this process and Ray's have used; actors live to the end of the session."""
    own = usage()
    everybody = [used for _, used in ray_processes().values()] + ([own] if own else [])
    return sum(used.cpu_seconds for used in everybody)


def _network() -> Any:
    """The layers of the model that ships; speed does not depend on what they have learnt."""
    from crackmodel.models.network import (
        attach_head,
        build_backbone,
        build_head,
    )

    data = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))
    return attach_head(build_backbone(next((data / "weights").resolve().glob("*.h5"), None)), build_head())


if __name__ == "__main__":
    main()
