from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")

import keras

from crackmodel.errors import WeightsNotFound
from crackmodel.models.network import (
    CLASS_NAMES,
    attach_head,
    build_backbone,
    build_head,
    find_weights,
)


def test_network_is_the_missions(weights: Path) -> None:
    network = attach_head(build_backbone(weights), build_head())

    assert network.input_shape == (None, 160, 160, 3)
    assert [layer.name for layer in network.layers] == [
        "tile",
        "rescaling",
        "mobilenetv2",
        "features",
        "verdict",
    ]
    assert network.output_shape == (None, len(CLASS_NAMES))
    assert CLASS_NAMES == ("clear", "crack")
    assert network.count_params() == 2_257_984 + 1280 * 2 + 2


def test_outputs_are_probabilities(weights: Path) -> None:
    tiles = np.random.default_rng(0).uniform(0, 255, (3, 160, 160, 3)).astype(np.float32)

    outputs = np.asarray(attach_head(build_backbone(weights), build_head())(tiles))

    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
    assert outputs.min() >= 0


def test_pixels_are_scaled_by_the_network_itself(weights: Path) -> None:
    rescaling = attach_head(build_backbone(weights), build_head()).get_layer("rescaling")

    np.testing.assert_allclose(rescaling(np.array([0.0, 127.5, 255.0])), [-1, 0, 1], atol=1e-6)


def test_features_are_the_golden_ones(imagenet_weights: Path, shared_data: Path) -> None:
    golden = np.load(imagenet_weights.parent / "golden_features_160.npz")
    folders = {"metu/Positive": "metu/train/Positive", "metu/Negative": "metu/train/Negative"}
    tiles, rows = [], []
    for row, file in enumerate(golden["files"]):
        folder, name = str(file).rsplit("/", 1)
        found = [
            path
            for path in (
                shared_data / folders.get(folder, folder) / name,
                shared_data / folder.replace("metu/", "metu/test/") / name,
                shared_data / "sdnet2018" / "validation" / "cracked" / name,
                shared_data / "sdnet2018" / "validation" / "uncracked" / name,
            )
            if path.is_file()
        ]
        if found:
            picture = Image.open(found[0]).convert("RGB").resize((160, 160), Image.Resampling.BILINEAR)
            tiles.append(np.asarray(picture, np.float32))
            rows.append(row)
    if not rows:
        pytest.skip("none of the three golden files is here")

    features = np.asarray(build_backbone(imagenet_weights)(np.stack(tiles)))

    np.testing.assert_allclose(features, golden["features"][rows], atol=2e-3)


def test_assembled_network_gives_what_the_head_gives_on_features(weights: Path) -> None:
    tiles = np.random.default_rng(1).uniform(0, 255, (4, 160, 160, 3)).astype(np.float32)
    backbone, head = build_backbone(weights), build_head()

    assembled = np.asarray(attach_head(backbone, head)(tiles))

    features = np.asarray(backbone(tiles))
    assert features.std() > 1e-3
    np.testing.assert_allclose(assembled, np.asarray(head(features)), atol=1e-6)


def test_given_weights_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"x")

    assert find_weights(tmp_path / "a.h5") == tmp_path / "a.h5"


def test_missing_weights_tell_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match=r"--weights FILE or CRACKMODEL_WEIGHTS .*internet"):
        find_weights(tmp_path / "none.h5")


@pytest.mark.parametrize("asked", [None, "imagenet"])
def test_without_weights_and_internet_both_ways_out_are_told(
    monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise Exception("URL fetch failure on https://...: None -- no route to host")

    monkeypatch.setattr(keras.utils, "get_file", unreachable)

    with pytest.raises(WeightsNotFound, match=r"could not download.*no route to host.*--weights FILE"):
        find_weights(asked)


def test_downloaded_weights_are_keras_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    def fetch(name: str, url: str, cache_subdir: str) -> str:
        asked.extend([name, url, cache_subdir])
        return str(tmp_path / name)

    monkeypatch.setattr(keras.utils, "get_file", fetch)

    assert find_weights().name == "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"
    assert str(asked[1]).endswith(f"/mobilenet_v2/{asked[0]}")
    assert asked[2] == "models"


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.h5").write_bytes(b"no weights")
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")

    for name in ("noise.h5", "other.weights.h5"):
        with pytest.raises(WeightsNotFound, match="does not hold MobileNetV2 weights"):
            build_backbone(tmp_path / name)
