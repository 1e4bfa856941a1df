"""Fine-tuning by several processes: equal to one process, through a death, and on two nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.ray_cluster import printed

pytest.importorskip("tensorflow")

import keras
import ray

from crackmodel.errors import ClusterError, UsageError
from crackmodel.models.datasets.labelled import Split, find_images, read_tiles
from crackmodel.models.network import attach_head, build_backbone, build_network
from crackmodel.models.training.checkpoints import State
from crackmodel.models.training.distributed.coordinator import DistributedFit, finetune_on_ray, require_shared
from crackmodel.models.training.finetuning import FinetuneRecipe, finetune
from crackmodel.models.training.frozen_head import fit_head
from crackmodel.models.training.train import train_model
from crackmodel.models.training.training_events import EpochFinished

pytestmark = pytest.mark.integration

# Training enlarges float error from step to step, and the recipe's own rate does so thousandfold.
_RECIPE = FinetuneRecipe(epochs=3, batch_size=16, learning_rate=1e-5)
_SEED = 3


@dataclass(frozen=True)
class Problem:
    """Sixty real patches: 45 to learn from, so that the last of three batches has 13."""

    tiles: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int8]
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    weights: Path
    head: list[npt.NDArray[np.float32]]

    def network(self) -> keras.Model:
        head = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(2, name="verdict")])
        head.set_weights(self.head)
        return attach_head(build_backbone(self.weights), head)

    def rows(self) -> dict[str, Any]:
        return {"train": self.train, "validation": self.validation, "recipe": _RECIPE, "seed": _SEED}


@dataclass(frozen=True)
class Trained:
    fit: DistributedFit
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
    return Problem(tiles, labels, split.train, split.validation, imagenet_weights, head.get_weights())


def _train(problem: Problem, folder: Path, on_epoch: Any = lambda _: None) -> Trained:
    network, events = problem.network(), []

    def listen(event: EpochFinished) -> None:
        events.append(event)
        on_epoch(event)

    fit = finetune_on_ray(
        network, problem.tiles, problem.labels, **problem.rows(), workers=2, folder=folder, on_epoch=listen
    )
    state = State.read(folder / "state.npz")
    return Trained(fit, network.get_weights(), state.optimizer, events)


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

    best = finetune(network, problem.tiles, problem.labels, **problem.rows(), on_epoch=events.append)

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
    assert together.fit.best_epoch == best
    assert [event.epoch for event in together.events] == [1, 2, 3]
    mine, theirs = events[0], together.events[0]
    assert theirs.loss == pytest.approx(mine.loss, rel=1e-6)
    assert theirs.val_loss == pytest.approx(mine.val_loss, rel=1e-3)
    assert (theirs.accuracy, theirs.val_accuracy) == pytest.approx((mine.accuracy, mine.val_accuracy))


def test_workers_nobody_disturbs_start_once(together: Trained) -> None:
    assert [(start.rank, start.epoch) for start in together.fit.starts] == [(0, 0), (1, 0)]
    assert len({start.pid for start in together.fit.starts}) == 2


def test_killed_worker_costs_an_epoch_and_changes_nothing(
    problem: Problem, together: Trained, tmp_path: Path
) -> None:
    def strike(event: EpochFinished) -> None:
        if event.epoch == 1:
            os.kill(json.loads((tmp_path / "worker-1.jsonl").read_text())["pid"], signal.SIGKILL)

    survived = _train(problem, tmp_path, strike)

    starts = [[start.epoch for start in survived.fit.starts if start.rank == rank] for rank in (0, 1)]
    assert starts[0] == starts[1]
    assert starts[0][0] == 0
    assert len(starts[0]) == 2
    assert 1 <= starts[0][1] < _RECIPE.epochs
    assert survived.events == together.events
    np.testing.assert_allclose(_flat(survived.weights), _flat(together.weights), rtol=0, atol=1e-7)


_TWO_NODES = """
import json, sys
from pathlib import Path

import keras
import numpy as np
import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100_000_000})
cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
ray.init(cluster.address, log_to_driver=False)
try:
    from crackmodel.models.training.distributed.coordinator import finetune_on_ray
    from crackmodel.models.training.finetuning import FinetuneRecipe
    from crackmodel.models.network import build_network

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    fit = finetune_on_ray(
        build_network(Path(sys.argv[1])),
        rng.integers(0, 256, (12, 160, 160, 3), np.uint8),
        np.arange(12) % 2,
        train=np.arange(7),
        validation=np.arange(8, 12),
        recipe=FinetuneRecipe(epochs=1, batch_size=8),
        seed=0,
        workers=2,
        folder=Path(sys.argv[2]),
        on_epoch=lambda _: None,
    )
    print(json.dumps([start.node for start in fit.starts]))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


def test_workers_on_two_nodes_add_up_the_gradient_of_one_process(
    imagenet_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TWO_NODES, imagenet_weights, tmp_path],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]
    assert len(set(printed(done.stdout))) == 2
    # After one step Adam's averages are the gradient and its square, each times a constant.
    optimizers = _keep_optimizers(monkeypatch)
    keras.utils.set_random_seed(0)
    finetune(
        build_network(imagenet_weights),
        np.random.default_rng(0).integers(0, 256, (12, 160, 160, 3), np.uint8), np.arange(12) % 2,
        train=np.arange(7), validation=np.arange(8, 12), recipe=FinetuneRecipe(epochs=1, batch_size=8),
        seed=0, on_epoch=lambda _: None,
    )  # fmt: skip
    alone, together = optimizers[0].variables[1:], State.read(tmp_path / "state.npz").optimizer[1:]
    one, two = _flat(alone), _flat(together)
    assert np.linalg.norm(one) > 0.01
    assert np.linalg.norm(one - two) < 1e-6 * np.linalg.norm(one)


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
    problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    class GivenUp(Exception):
        pass

    def give_up(event: EpochFinished) -> None:
        raise GivenUp

    with pytest.raises(GivenUp):
        _train(problem, tmp_path, give_up)

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
    problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    with pytest.raises(ClusterError, match="3 training workers need a CPU each, and Ray has 2"):
        finetune_on_ray(
            problem.network(), problem.tiles, problem.labels, **problem.rows(),
            workers=3, folder=tmp_path, on_epoch=lambda _: None,
        )  # fmt: skip


def test_gpus_that_ray_does_not_have_are_refused_at_once(
    problem: Problem, tmp_path: Path, embedded_ray: None
) -> None:
    with pytest.raises(ClusterError, match="2 training workers need a GPU each, and Ray has none"):
        finetune_on_ray(
            problem.network(), problem.tiles, problem.labels, **problem.rows(),
            workers=2, gpus=1, folder=tmp_path, on_epoch=lambda _: None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"mode": "frozen", "train_workers": 2}, "training workers"),
        ({"mode": "finetune", "train_workers": 1}, "training workers"),
        ({"mode": "finetune", "gpus_per_worker": 1}, "no training workers"),
        ({"mode": "finetune", "train_workers": 2, "gpus_per_worker": 2}, "2 GPUs per worker"),
        ({"mode": "frozen", "precision": "mixed"}, "mode frozen has no precision"),
        ({"mode": "finetune", "precision": "float16"}, "no precision 'float16'"),
    ],
)
def test_senseless_workers_and_precisions_are_refused(
    tmp_path: Path, wrong: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        train_model(tmp_path, models=tmp_path / "models", **wrong)
