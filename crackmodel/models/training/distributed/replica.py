"""A worker of distributed fine-tuning: what Ray Train runs in each process.

Every worker makes its slice of every batch, as `finetune` would make the whole, and steps on the sum
of all workers' gradients. So all of them hold the same weights at any time, and the same as one
process would. Everything that they share lies in one folder:

    tiles.npy  rows.npz  network.json    the job, written before the workers start
    state.npz                            where the training stands: at first as it came, then after each epoch
    worker-<rank>.jsonl                  a line for each time that a worker started

The state is not one of Ray's checkpoints: Ray registers these seconds later, and a worker that dies meanwhile
would cost every epoch since the one before.
"""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import ray
import ray.train
from ray.train.backend import Backend, BackendConfig

from crackmodel.models.training.checkpoints import STATE_FILE, TILES_FILE, State
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe, build_optimizer, one_hot
from crackmodel.models.training.tile_batches import in_batches, prefetched
from crackmodel.models.training.training_events import EpochFinished
from crackmodel.storage.files import replacing

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Array = npt.NDArray[np.float32]


class TensorFlowCluster(BackendConfig):
    """Give every worker the addresses of all, in `TF_CONFIG`.

    Ray's own `TensorflowTrainer` trains the same weights. But importing it loads TensorFlow, 0.7 GB, into two
    processes that only coordinate: the task that calls `fit` and Ray Train's controller.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that sets the workers up."""
        return _TensorFlowBackend


class _TensorFlowBackend(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(_free_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, _set_cluster, addresses, rank)
                for rank in range(len(worker_group))
            ]
        )


def _free_address() -> str:
    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _set_cluster(addresses: Sequence[str], rank: int) -> None:
    cluster = {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": rank}}
    os.environ["TF_CONFIG"] = json.dumps(cluster)


def run_replica(job: dict[str, Any]) -> None:
    """Train as one of several workers, called by Ray Train.

    Args:
        job: `folder` (str), `recipe` (FinetuneRecipe), `seed` (int) and `gpus` (int, 0 or 1).
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):  # Ray shows each worker its own
        tf.config.experimental.set_memory_growth(gpu, True)
    if not job["gpus"]:
        tf.config.set_visible_devices([], "GPU")
    folder, context = Path(job["folder"]), ray.train.get_context()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    replica = _Replica(
        folder, job["recipe"], job["seed"], strategy, context.get_world_rank(), context.get_world_size()
    )
    state = State.read(folder / STATE_FILE)
    _note_start(folder, replica.rank, state.epoch)
    replica.restore(state)
    while not state.is_last(replica.recipe.epochs, replica.recipe.patience):
        state = replica.next_epoch(state)
        if replica.rank == 0:
            with replacing(folder / STATE_FILE) as unfinished:
                state.write(unfinished)
        ray.train.report(asdict(state.history[-1]))  # all workers wait for each other here


def _note_start(folder: Path, rank: int, epoch: int) -> None:
    node = ray.get_runtime_context().get_node_id()
    start = {"rank": rank, "pid": os.getpid(), "node": node, "epoch": epoch}
    with (folder / f"worker-{rank}.jsonl").open("a") as lines:
        lines.write(json.dumps(start) + "\n")


class _Replica:
    """A worker's network, its data and its part in every step."""

    def __init__(
        self,
        folder: Path,
        recipe: FinetuneRecipe,
        seed: int,
        strategy: tf.distribute.Strategy,
        rank: int,
        workers: int,
    ) -> None:
        import keras

        self.recipe, self.rank = recipe, rank
        self._strategy, self._workers = strategy, workers
        tiles = np.load(folder / TILES_FILE, mmap_mode="r")
        with np.load(folder / "rows.npz") as rows:
            self._examples = Examples(tiles, **rows, recipe=recipe, seed=seed)
        with strategy.scope():
            self._network = keras.models.model_from_json((folder / "network.json").read_text())
            self._optimizer = build_optimizer(self._network, recipe, len(self._examples.train))
        self._step = _training_step(self._network, self._optimizer, recipe, strategy)
        self._sum = _summation(strategy)

    def restore(self, state: State) -> None:
        """Set network and optimizer to a state, which has to be every worker's."""
        if self._sum((state.epoch,))[0] != state.epoch * self._workers:
            raise RuntimeError("The workers have read the states of different epochs.")
        with self._strategy.scope():
            self._network.set_weights(state.weights)
            if state.optimizer:
                for variable, value in zip(self._optimizer.variables, state.optimizer, strict=True):
                    variable.assign(value)

    def next_epoch(self, state: State) -> State:
        """Train one more epoch and measure it."""
        learnt, seen = self._train_epoch(state.epoch), self._validate()
        done = EpochFinished(state.epoch + 1, self.recipe.epochs, *learnt, *seen)
        optimizer = [np.asarray(variable) for variable in self._optimizer.variables]
        return state.after(done, self._network.get_weights(), optimizer)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        order = self._examples.order(epoch)
        loss, hits = 0.0, 0
        batches = list(in_batches(order, self.recipe.batch_size))
        slices = prefetched(partial(self._share, epoch), batches)
        for everyones, (batch, targets, shares) in zip(batches, slices, strict=True):
            part, outputs = self._step(batch, targets, shares)
            loss += float(part) * len(everyones)
            right = np.argmax(outputs, axis=1) == np.argmax(targets, axis=1)
            hits += int(np.sum(right & (shares > 0)))
        loss, accuracy = self._sum((loss, hits)) / len(order)
        return float(loss), float(accuracy)

    def _share(self, epoch: int, everyones: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """Make this worker's slice of a batch, with the rows' weights."""
        rows = np.array_split(everyones, self._workers)[self.rank]
        made, wanted = self._examples.augmented(rows, self._examples.train, epoch)
        # Rows that weigh nothing fill the last batch: no worker's share is ever empty.
        most = math.ceil(self.recipe.batch_size / self._workers)
        batch = np.zeros((most, *made.shape[1:]), np.float32)
        targets = np.tile(one_hot(np.zeros(1, np.int64)), (most, 1))
        shares = np.zeros(most, np.float32)
        batch[: len(rows)], targets[: len(rows)] = made, wanted
        shares[: len(rows)] = 1 / len(everyones)
        return batch, targets, shares

    def _validate(self) -> tuple[float, float]:
        rows = self._examples.validation
        mine = np.array_split(rows, self._workers)[self.rank]
        loss, accuracy = self._sum(self._examples.measure(self._network, mine)) / (2 * len(rows))
        return float(loss), float(accuracy)


def _training_step(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    recipe: FinetuneRecipe,
    strategy: tf.distribute.Strategy,
) -> Any:
    import keras
    import tensorflow as tf

    entropy = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing, reduction=None)
    weights = network.trainable_variables

    def replica_step(batch: tf.Tensor, wanted: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = network(batch, training=False)  # why not True: see finetuning.py
            # Shares of the global batch, because `apply` adds up all workers' gradients by itself.
            # Reducing them here as well would be wrong, and silently so.
            loss = tf.reduce_sum(entropy(wanted, outputs) * shares)
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss, outputs

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def step(batch: tf.Tensor, wanted: tf.Tensor, shares: tf.Tensor) -> Any:
        return strategy.run(replica_step, args=(batch, wanted, shares))

    return step


def _summation(strategy: tf.distribute.Strategy) -> Callable[[tuple[float, ...]], npt.NDArray[np.float64]]:
    """Make a function that sums numbers over the workers."""
    import tensorflow as tf

    def replica_sum(values: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

    # Not in a `tf.function`: a graph's inputs have no device, which `all_reduce` needs.
    return lambda values: np.asarray(strategy.run(replica_sum, args=(tf.constant(values, tf.float64),)))
