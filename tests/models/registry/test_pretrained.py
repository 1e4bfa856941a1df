"""How the model that ships behaves."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from crackmodel.models.augmentation.backgrounds import draw_scene
from crackmodel.models.augmentation.variations import compress
from crackmodel.models.datasets.labelled import find_images, read_tiles
from crackmodel.models.inference.loading import LoadedModel, load_model
from crackmodel.models.preprocessing import prepare_tile
from crackmodel.models.registry.registry import PRETRAINED
from crackmodel.surveys.tiling import cut_tiles, tile_grid
from tests.models.drawings import add_crack, draw_clear, draw_crack


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model()


@pytest.fixture(scope="module")
def patches(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """200 METU patches that the model has not seen, as tiles and labels."""
    images = find_images(shared_data / "metu" / "test")
    chosen = np.arange(0, len(images.files), len(images.files) // 200)[:200]
    return read_tiles(images.root, [images.files[row] for row in chosen]).tiles, images.labels[chosen]


@pytest.fixture(scope="module")
def said(model: LoadedModel, patches: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What the model says of these patches as they are."""
    return verdicts(model, patches[0])


def verdicts(model: LoadedModel, tiles: np.ndarray) -> np.ndarray:
    return model.predict(tiles) >= model.version.threshold


def test_files_are_what_the_card_says(model: LoadedModel) -> None:
    model.version.verify()


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*")) <= 12 * 2**20


def test_card_names_data_and_no_place(model: LoadedModel) -> None:
    text = (PRETRAINED / "card.json").read_text()

    assert not re.search(r"""(^|["'\s(])(/|~/|[A-Z]:\\)\w""", text)
    assert "CC BY 4.0" in text
    assert model.version.card.training.mode == "finetune"
    assert model.version.card.data.name == "metu/train"
    assert model.version.card.metrics["metu/test"].accuracy >= 0.995


@pytest.mark.parametrize("level", [0, 60, 128, 190, 255])
def test_blank_tile_is_clear(model: LoadedModel, level: int) -> None:
    blank = np.full((1, 160, 160, 3), level, np.uint8)

    assert not verdicts(model, blank).any()


def test_unseen_patches_are_judged_right(patches: tuple[np.ndarray, np.ndarray], said: np.ndarray) -> None:
    _, labels = patches

    assert labels.sum() == 100
    assert np.mean(said == labels) >= 0.99


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tile: tile[::-1], id="upside-down"),
        pytest.param(lambda tile: tile[:, ::-1], id="mirrored"),
        pytest.param(np.rot90, id="turned left"),
        pytest.param(lambda tile: np.rot90(tile, 3), id="turned right"),
        pytest.param(lambda tile: np.clip(tile * 0.75, 0, 255), id="darker"),
        pytest.param(lambda tile: np.clip(tile * 1.15, 0, 255), id="brighter"),
        pytest.param(lambda tile: cv2.GaussianBlur(tile, (0, 0), 0.8), id="softer"),
        pytest.param(lambda tile: compress(tile, 80), id="compressed"),
        pytest.param(lambda tile: compress(tile, 50), id="compressed much"),
    ],
)
def test_changed_patch_keeps_its_verdict(
    model: LoadedModel, patches: tuple[np.ndarray, np.ndarray], said: np.ndarray, change: object
) -> None:
    tiles, _ = patches
    changed = np.stack([change(tile) for tile in tiles]).astype(np.uint8)  # type: ignore[operator]

    assert np.mean(verdicts(model, changed) == said) >= 0.98


def test_drawn_crack_raises_the_probability(model: LoadedModel) -> None:
    cracked = [draw_crack(np.random.default_rng(seed)) for seed in range(20)]
    clear = [draw_clear(np.random.default_rng(seed)) for seed in range(20)]

    # The two start from the same seed, but the crack draws first: compare the groups.
    assert np.median(model.predict(np.stack(cracked))) > model.version.threshold
    assert np.median(model.predict(np.stack(clear))) < 0.1


def test_crack_drawn_on_a_clear_patch_raises_its_probability(
    model: LoadedModel, patches: tuple[np.ndarray, np.ndarray], said: np.ndarray
) -> None:
    tiles, labels = patches
    clear = tiles[(labels == 0) & ~said]
    cracked = np.stack([add_crack(tile, np.random.default_rng(seed)) for seed, tile in enumerate(clear)])

    before, after = model.predict(clear), model.predict(cracked)

    assert len(clear) > 80
    assert np.mean(after > before) >= 0.95
    assert np.mean(after >= model.version.threshold) >= 0.85


@pytest.fixture(scope="module")
def threshold(model: LoadedModel) -> float:
    """From which distance on a tile is unlike the training images."""
    if model.version.card.ood is None:
        pytest.skip("the model that ships has no statistics of its training images")
    return model.version.card.ood.threshold


def test_unseen_patches_look_familiar(
    model: LoadedModel, patches: tuple[np.ndarray, np.ndarray], threshold: float
) -> None:
    assert np.mean(model.ood_scores(patches[0]) > threshold) <= 0.04


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photograph_of_something_else_looks_unfamiliar(
    model: LoadedModel, threshold: float, name: str
) -> None:
    pixels = pytest.importorskip("sklearn.datasets").load_sample_image(name)
    tiles = np.stack([prepare_tile(tile) for tile in cut_tiles(pixels, tile_grid(*pixels.shape[:2]))])

    assert np.median(model.ood_scores(tiles)) > threshold


def test_drawn_vegetation_gravel_and_bricks_look_unfamiliar(model: LoadedModel, threshold: float) -> None:
    tiles = np.stack([draw_scene(np.random.default_rng(seed), 160) for seed in range(40)])

    assert np.mean(model.ood_scores(tiles) > threshold) >= 0.75


def test_cells_of_the_mosaics_are_found(model: LoadedModel, shared_data: Path) -> None:
    import csv

    from crackmodel.surveys.decoding import decode_image

    folder = shared_data / "mosaics"
    name = "metu_mosaic_3_047pos.jpg"
    pixels = decode_image((folder / name).read_bytes())
    with (folder / "truth_tiles.csv").open() as file:
        cells = [row for row in csv.DictReader(file) if row["image"] == name]
    boxes = [tuple(int(cell[side]) for side in ("x0", "y0", "x1", "y1")) for cell in cells]
    tiles = np.stack([prepare_tile(pixels[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes])
    truth = np.array([cell["crack"] == "1" for cell in cells])

    found = verdicts(model, tiles)

    assert truth.sum() == 47
    assert (found & truth).sum() / truth.sum() >= 0.97
    assert (found & truth).sum() / found.sum() >= 0.93
