"""Training in mixed precision: it learns, and what comes out is float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from crackmodel.models.datasets.labelled import find_images, read_tiles
from crackmodel.models.export.litert import largest_difference, to_litert
from crackmodel.models.network import (
    BACKBONE,
    attach_head,
    build_backbone,
    build_head,
)
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe, finetune
from crackmodel.models.training.precision import in_precision
from crackmodel.models.training.training_events import EpochFinished

pytestmark = pytest.mark.integration


def test_float32_is_the_network_itself(weights: Path) -> None:
    network = attach_head(build_backbone(weights), build_head())

    assert in_precision(network, "float32") is network


def test_mixed_training_moves_float32_weights_and_exports(drawn_dataset: Path, weights: Path) -> None:
    images = find_images(drawn_dataset)
    tiles, labels = read_tiles(images.root, images.files[::5]).tiles, images.labels[::5]
    network, events = attach_head(build_backbone(weights), build_head()), list[EpochFinished]()
    before = network.get_weights()
    twin = in_precision(network, "mixed")
    layers = {layer.name: layer.compute_dtype for layer in twin.layers}

    recipe = FinetuneRecipe(epochs=1, batch_size=8, precision="mixed")
    examples = Examples(tiles, labels, np.arange(0, 16, 2), np.arange(1, 16, 2), recipe, seed=0)

    best = finetune(network, examples, events.append)

    assert twin.get_layer(BACKBONE).layers[-1].compute_dtype == "bfloat16"
    assert layers["rescaling"] == layers["features"] == layers["verdict"] == "float32"
    assert network.get_layer(BACKBONE).layers[-1].compute_dtype == "float32"
    assert best == 1
    assert np.isfinite([events[0].loss, events[0].val_loss]).all()
    after = network.get_weights()
    assert {array.dtype for array in after} == {np.dtype("float32")}
    assert all(np.isfinite(array).all() for array in after)
    assert np.mean([np.any(one != other) for one, other in zip(before, after, strict=True)]) > 0.4
    assert largest_difference(network, to_litert(network), tiles) < 1e-4


def test_mixed_network_says_nearly_the_same(drawn_dataset: Path, weights: Path) -> None:
    network = attach_head(build_backbone(weights), build_head())
    tiles = read_tiles(drawn_dataset, find_images(drawn_dataset).files[::10]).tiles.astype(np.float32)

    exact, rounded = (np.asarray(net(tiles)) for net in (network, in_precision(network, "mixed")))

    assert rounded.dtype == np.float32
    assert exact.std() > 1e-3
    assert 0 < np.abs(exact - rounded).max() < 0.1
