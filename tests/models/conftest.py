"""Drawn cracks to learn from, weights to start from, and cards without a model behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crackmodel.models.card.card import (
    Calibration,
    Card,
    DataRecord,
    Epoch,
    Metrics,
    Part,
    Threshold,
    TrainingRecord,
)
from tests.models.drawings import write_patches

WEIGHTS = "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


@pytest.fixture(scope="session")
def drawn_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 drawn cracks and 40 drawn patches without, PNG, of two sizes; read it, do not change it."""
    root = tmp_path_factory.mktemp("drawn") / "slabs"
    return write_patches(root, np.random.default_rng(5), 40, edges=(227, 160))


@pytest.fixture(scope="session")
def imagenet_weights(shared_data: Path) -> Path:
    """The real backbone."""
    return shared_data / WEIGHTS


@pytest.fixture
def card() -> Card:
    """A card of nothing."""
    return Card(
        name="",
        version="",
        created_at="2026-01-02T03:04:05+00:00",
        architecture="none",
        class_names=("clear", "crack"),
        input_edge=160,
        preprocess="cv2-linear-160",
        data=DataRecord(
            name="slabs",
            fingerprint="0" * 64,
            positive="cracked",
            negative="plain",
            unusable=0,
            duplicates=0,
            split="random",
            seed=0,
            train=Part(70, 35),
            validation=Part(24, 12),
            test=Part(6, 3),
        ),
        training=TrainingRecord(
            mode="frozen",
            command="train_model(...)",
            hyperparameters={"epochs": 1, "augmentation": {"zoom": 0.25}},
            weights="none.h5",
            weights_sha256="1" * 64,
            best_epoch=1,
            history=(Epoch(1, 0.5, 0.75, 0.5, 0.75),),
            seconds=1.5,
            parameters=2,
        ),
        metrics={
            "test": Metrics(6, 3, 0.5, 1.0, 1.0, 1.0, 1.0, None, None, 0.01, 3, 0, 0, 3),
        },
        calibration=Calibration("temperature scaling", 1.25),
        threshold=Threshold(0.45, "by hand"),
        export_difference=1e-6,
        software={"python": "3.11"},
    )
