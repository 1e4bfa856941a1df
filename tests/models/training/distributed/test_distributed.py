"""Fine-tuning by several processes: equal to one process, through a death, and on two nodes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tensorflow")

import keras
import ray

from crackmodel.errors import ClusterError, UsageError
from crackmodel.models.datasets.labelled import Split, find_images, read_tiles
from crackmodel.models.network import BACKBONE, attach_head, build_backbone
from crackmodel.models.training.checkpoints import State
from crackmodel.models.training.distributed.coordinator import finetune_on_ray, require_shared
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe, finetune
from crackmodel.models.training.frozen_head import fit_head
from crackmodel.models.training.train import train_model
from crackmodel.models.training.training_events import EpochFinished

pytestmark = pytest.mark.integration

# Training enlarges float error from step to step, and the recipe's own rate does so thousandfold.
_RECIPE = FinetuneRecipe(epochs=3, batch_size=16, learning_rate=1e-5)
_SEED = 3


@dataclass(frozen=True)
class Problem:
    """Sixty patches: 45 to learn from, so that the last of three batches has 13."""

    network: Callable[[], keras.Model]
    tiles: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int8]
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    recipe: FinetuneRecipe = _RECIPE

    def examples(self) -> Examples:
        return Examples(self.tiles, self.labels, self.train, self.validation, self.recipe, _SEED)


@dataclass(frozen=True)
class Trained:
    best_epoch: int
    starts: list[dict[str, Any]]
    weights: list[npt.NDArray[np.float32]]
    optimizer: list[npt.NDArray[np.float32]]
    events: list[EpochFinished]


@pytest.fixture(scope="module")
def problem(shared_data: Path, imagenet_weights: Path) -> Problem:
    images = find_images(shared_data / "metu" / "train")
    picked = np.concatenate([np.flatnonzero(images.labels == label)[:30] for label in (0, 1)])
    tiles = read_tiles(images.root, [images.files[row] for row in picked]).tiles
    labels = images.labels[picked]
    rows = np.random.default_rng(0).permutation(60)
    split = Split(np.sort(rows[:45]), np.sort(rows[45:]), rows[:0])
    keras.utils.set_random_seed(1)
    features = build_backbone(imagenet_weights).predict(tiles.astype(np.float32), verbose=0)
    head, _ = fit_head(features, labels, split, epochs=5, batch_size=16, seed=1, on_epoch=lambda _: None)

    def network() -> keras.Model:
        copy = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(2, name="verdict")])
        copy.set_weights(head.get_weights())
        return attach_head(build_backbone(imagenet_weights), copy)

    return Problem(network, tiles, labels, split.train, split.validation)


def build_small_network() -> keras.Model:
    """Build a network whose backbone has few layers: the real one takes every process half a minute."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((160, 160, 3))
    maps = keras.layers.Conv2D(8, 5, strides=5, use_bias=False)(pixels)
    maps = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(maps))
    backbone = keras.Model(pixels, keras.layers.DepthwiseConv2D(3)(maps), name=BACKBONE)
    tile = keras.Input((160, 160, 3), name="tile")
    maps = backbone(keras.layers.Rescaling(1 / 127.5, offset=-1)(tile))
    verdict = keras.layers.Dense(2, activation="softmax")
    return keras.Model(tile, verdict(keras.layers.GlobalAveragePooling2D()(maps)))


@pytest.fixture(scope="module")
def small_problem() -> Problem:
    """Noise, and a network that learns it quickly."""
    tiles = np.random.default_rng(0).integers(0, 256, (60, 160, 160, 3), np.uint8)
    recipe = dataclasses.replace(_RECIPE, learning_rate=1e-3, first_trained="")
    return Problem(
        build_small_network, tiles, np.arange(60, dtype=np.int8) % 2, np.arange(45), np.arange(45, 60), recipe
    )


def _train(problem: Problem, folder: Path, on_epoch: Any = lambda _: None) -> Trained:
    network, events = problem.network(), []

    def listen(event: EpochFinished) -> None:
        events.append(event)
        on_epoch(event)

    best = finetune_on_ray(network, problem.examples(), listen, workers=2, folder=folder)
    state = State.read(folder / "state.npz")
    return Trained(best, _starts(folder), network.get_weights(), state.optimizer, events)


def _starts(folder: Path) -> list[dict[str, Any]]:
    """Read every start of every worker: its rank, process and node, and the epochs that were done."""
    files = sorted(folder.glob("worker-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def together(problem: Problem, tmp_path_factory: pytest.TempPathFactory, embedded_ray: None) -> Trained:
    """Three epochs by two workers whom nobody disturbs."""
    return _train(problem, tmp_path_factory.mktemp("together"))


def _flat(arrays: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.ravel(array) for array in arrays]).astype(np.float64)


def _keep_optimizers(monkeypatch: pytest.MonkeyPatch) -> list[keras.optimizers.Adam]:
    """Fill a list with every optimizer that is made."""
    made: list[keras.optimizers.Adam] = []
    adam = keras.optimizers.Adam
    monkeypatch.setattr(keras.optimizers, "Adam", lambda *given: made.append(adam(*given)) or made[-1])
    return made


def test_two_workers_take_the_steps_of_one_process(
    problem: Problem, together: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizers = _keep_optimizers(monkeypatch)
    network, events = problem.network(), []
    before = _flat(network.get_weights())

    best = finetune(network, problem.examples(), events.append)

    alone, shared = _flat(network.get_weights()), _flat(together.weights)
    apart, moved = np.abs(alone - shared), np.abs(alone - before)
    assert np.median(moved) > 1e-5
    # Adam divides by the gradient's size, so float error grows where there is next to no gradient: one
    # process with one thread and one with two are as far apart.
    assert np.quantile(apart, 0.99) < 1e-6
    assert np.quantile(apart, 0.999) < 5e-6
    assert apart.max() < 1e-4
    # Adam's steps do not depend on the loss's scale. Its averages of gradients do.
    one, two = (_flat(variables[1:]) for variables in (optimizers[0].variables, together.optimizer))
    assert np.linalg.norm(one - two) < 0.05 * np.linalg.norm(one)
    assert together.best_epoch == best
    assert [event.epoch for event in together.events] == [1, 2, 3]
    mine, theirs = events[0], together.events[0]
    assert theirs.loss == pytest.approx(mine.loss, rel=1e-6)
    assert theirs.val_loss == pytest.approx(mine.val_loss, rel=1e-3)
    assert (theirs.accuracy, theirs.val_accuracy) == pytest.approx((mine.accuracy, mine.val_accuracy))


def test_workers_nobody_disturbs_start_once(together: Trained) -> None:
    assert [(start["rank"], start["epoch"]) for start in together.starts] == [(0, 0), (1, 0)]
    assert len({start["pid"] for start in together.starts}) == 2


def test_killed_worker_costs_an_epoch_and_changes_nothing(
    small_problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    for folder in (tmp_path / "together", tmp_path / "survived"):
        folder.mkdir()
    together = _train(small_problem, tmp_path / "together")

    def strike(event: EpochFinished) -> None:
        if event.epoch == 1:
            os.kill(json.loads((folder / "worker-1.jsonl").read_text())["pid"], signal.SIGKILL)

    survived = _train(small_problem, folder, strike)

    starts = [[start["epoch"] for start in survived.starts if start["rank"] == rank] for rank in (0, 1)]
    assert starts[0] == starts[1]
    assert starts[0][0] == 0
    assert len(starts[0]) == 2
    assert 1 <= starts[0][1] < small_problem.recipe.epochs
    assert survived.events == together.events
    np.testing.assert_allclose(_flat(survived.weights), _flat(together.weights), rtol=0, atol=1e-7)


ONE_STEP = Examples(
    tiles=np.random.default_rng(0).integers(0, 256, (12, 160, 160, 3), np.uint8),
    labels=np.arange(12) % 2,
    train=np.arange(7),
    validation=np.arange(8, 12),
    recipe=FinetuneRecipe(epochs=1, batch_size=8, first_trained=""),
    seed=0,
)

_TWO_NODES = """
import sys
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
ray.init(cluster.address, log_to_driver=False)
try:
    from crackmodel.models.training.distributed.coordinator import finetune_on_ray
    from tests.models.training.distributed.test_distributed import ONE_STEP, build_small_network

    finetune_on_ray(build_small_network(), ONE_STEP, lambda _: None, workers=2, folder=Path(sys.argv[1]))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


def test_workers_on_two_nodes_add_up_the_gradient_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TWO_NODES, tmp_path],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert len({start["node"] for start in _starts(tmp_path)}) == 2
    # After one step Adam's averages are the gradient and its square, each times a constant.
    optimizers = _keep_optimizers(monkeypatch)
    finetune(build_small_network(), ONE_STEP, lambda _: None)
    alone, together = optimizers[0].variables[1:], State.read(tmp_path / "state.npz").optimizer[1:]
    one, two = _flat(alone), _flat(together)
    assert np.linalg.norm(one) > 0.01
    # Float error. A share that is missing or counted twice would make about one half of it.
    assert np.linalg.norm(one - two) < 1e-3 * np.linalg.norm(one)


def test_model_fine_tuned_by_two_is_published_and_leaves_nothing_else(
    drawn_dataset: Path, weights: Path, tmp_path: Path, embedded_ray: None
) -> None:
    version = train_model(
        drawn_dataset,
        mode="finetune",
        train_workers=2,
        epochs=1,
        weights=weights,
        models=tmp_path,
        int8=False,
    )

    assert version.card.training.hyperparameters["train_workers"] == 2
    assert len(version.card.training.history) == 1
    version.verify()
    assert not [path for path in tmp_path.rglob(".*") if path.name not in (".lock", ".features")]
    assert not list(version.path.rglob("tiles.npy"))


def test_training_that_its_listener_gives_up_ends_and_gives_its_cpus_back(
    small_problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    class GivenUp(Exception):
        pass

    def give_up(event: EpochFinished) -> None:
        raise GivenUp

    with pytest.raises(GivenUp):
        _train(small_problem, tmp_path, give_up)

    workers = [json.loads(file.read_text())["pid"] for file in tmp_path.glob("worker-*.jsonl")]
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "the workers go on"
        time.sleep(0.2)
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline, "the CPUs stay reserved"
        time.sleep(0.2)


def test_folder_that_a_node_does_not_see_is_named(tmp_path: Path, embedded_ray: None) -> None:
    with pytest.raises(ClusterError, match=r"does not see .*elsewhere"):
        require_shared(tmp_path / "elsewhere")


def test_more_workers_than_cpus_are_refused_at_once(
    small_problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    with pytest.raises(ClusterError, match="3 training workers need a CPU each, and Ray has 2"):
        finetune_on_ray(
            small_problem.network(), small_problem.examples(), lambda _: None,
            workers=3, folder=tmp_path,
        )  # fmt: skip


def test_gpus_that_ray_does_not_have_are_refused_at_once(
    small_problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    with pytest.raises(ClusterError, match="2 training workers need a GPU each, and Ray has none"):
        finetune_on_ray(
            small_problem.network(), small_problem.examples(), lambda _: None,
            workers=2, gpus=1, folder=tmp_path,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"mode": "frozen", "train_workers": 2}, "training workers"),
        ({"mode": "finetune", "train_workers": 1}, "training workers"),
        ({"mode": "finetune", "gpus_per_worker": 1}, "no training workers"),
        ({"mode": "finetune", "train_workers": 2, "gpus_per_worker": 2}, "gpus-per-worker=2"),
        ({"mode": "frozen", "precision": "mixed"}, "mode frozen has no precision"),
        ({"mode": "finetune", "precision": "float16"}, "precision='float16'"),
    ],
)
def test_senseless_workers_and_precisions_are_refused(
    tmp_path: Path, wrong: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        train_model(tmp_path, models=tmp_path / "models", **wrong)
