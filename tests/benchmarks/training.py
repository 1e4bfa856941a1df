"""How much frozen training gains by extracting features once: `python -m tests.benchmarks.training`.

Both train the same head on the same split for ten epochs, one after the other on the same machine:

- `model.fit` over pixels: the frozen backbone sees every image again in every epoch. Decoding is a present:
  the tiles are in memory before the clock starts;
- features once: files are read, decoded and extracted by Ray tasks, then the head is fitted; a second
  training finds the features again.

Needs METU and the ImageNet weights below `CRACKMODEL_TEST_DATA` (`../shared/data` by default).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from crackmodel.models.datasets.labelled import find_images, read_tiles, split_70_24_6
from crackmodel.models.network import (
    attach_head,
    build_backbone,
    build_head,
)
from crackmodel.models.training.finetuning import one_hot
from crackmodel.models.training.train import train_model

EPOCHS = 10
BATCH = 16
_DATA = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))


def main() -> None:
    """Measure and print one Markdown table."""
    weights = next((_DATA / "weights").glob("*.h5"), None)
    dataset = _DATA / "metu" / "train"
    if weights is None or not dataset.is_dir():
        sys.exit(f"{_DATA} holds no weights or no METU.")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    print("| what | seconds | faster | validation accuracy |\n|---|---:|---:|---:|", flush=True)
    slow, accuracy = _over_pixels(dataset, weights)
    print(f"| model.fit over pixels | {slow:.0f} | 1x | {accuracy:.4f} |", flush=True)
    with tempfile.TemporaryDirectory() as models:
        for what in ("features once", "a second training, features known"):
            fit, whole, accuracy = _over_features(dataset, weights, Path(models))
            print(f"| {what} | {fit:.1f} | {slow / fit:.1f}x | {accuracy:.4f} |", flush=True)
            print(f"| the same with evaluation, export and pictures | {whole:.1f} | {slow / whole:.1f}x | |")


def _over_pixels(dataset: Path, weights: Path) -> tuple[float, float]:
    import keras
    import tensorflow as tf

    images = find_images(dataset)
    tiles, labels = read_tiles(images.root, images.files).tiles, images.labels
    split = split_70_24_6(labels, 0)

    def batches(rows: np.ndarray) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((tiles[rows], one_hot(labels[rows])))
        data = data.shuffle(len(rows), seed=0)  # the files come class by class
        return data.batch(BATCH).map(lambda x, y: (tf.cast(x, tf.float32), y)).prefetch(2)

    keras.utils.set_random_seed(0)
    network = attach_head(build_backbone(weights), build_head())
    for layer in network.layers[:-1]:
        layer.trainable = False
    network.compile(
        optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    train, validation = batches(split.train), batches(split.validation)
    started = time.perf_counter()
    history = network.fit(train, validation_data=validation, epochs=EPOCHS, verbose=0)
    return time.perf_counter() - started, float(history.history["val_accuracy"][-1])


def _over_features(dataset: Path, weights: Path, models: Path) -> tuple[float, float, float]:
    """Seconds until the last epoch, seconds of everything, and the last epoch's validation accuracy."""
    from crackmodel.models.training.training_events import EpochFinished

    last: list[tuple[float, float]] = []
    started = time.perf_counter()
    train_model(
        dataset,
        weights=weights,
        models=models,
        name="frozen",
        epochs=EPOCHS,
        batch_size=BATCH,
        on_event=lambda event: (
            last.append((time.perf_counter() - started, event.val_accuracy))
            if isinstance(event, EpochFinished)
            else None
        ),
    )
    seconds, accuracy = last[EPOCHS - 1]
    return seconds, time.perf_counter() - started, accuracy


if __name__ == "__main__":
    main()
