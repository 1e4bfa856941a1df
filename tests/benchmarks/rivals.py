"""The same network by Keras, alone and under Ray Data: started by `throughput` in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

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
    started = time.perf_counter()
    predicted = network.predict(data, verbose=0)
    return {"rate": len(predicted) / (time.perf_counter() - started)}


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
    started = time.perf_counter()
    images = ray.data.read_images(str(survey), size=(160, 160), mode="RGB", include_paths=True)
    scored = images.map_batches(KerasActor, concurrency=CORES, batch_size=32)
    scored.write_parquet(str(out))
    ended = time.perf_counter()
    rows = ray.data.read_parquet(str(out)).count()
    ray.shutdown()
    return {"rate": rows / (ended - started), "whole": rows / (ended - began), "rows": rows}


def _network() -> Any:
    """The layers of the model that ships; speed does not depend on what they have learnt."""
    from crackmodel.models.network import build_network

    data = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))
    return build_network(next((data / "weights").resolve().glob("*.h5"), None))


if __name__ == "__main__":
    main()
