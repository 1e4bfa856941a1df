"""Distributed fine-tuning: the process that starts the workers and waits.

    tiles, rows, network -> folder -> Ray Train: N workers, one step together -> folder -> network

Ray Train starts the workers, and starts them again from the last epoch when one dies. TensorFlow's
`MultiWorkerMirroredStrategy` adds up their gradients. The folder has to be one that every node can
read and write: any on one machine, a shared file system on several.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from crackmodel.cluster.nodes import require_on_every_node
from crackmodel.cluster.session import ray_session
from crackmodel.errors import ClusterError
from crackmodel.models.training.checkpoints import STATE_FILE, TILES_FILE, State
from crackmodel.models.training.finetuning import Examples, FinetuneRecipe
from crackmodel.models.training.precision import in_precision
from crackmodel.models.training.training_events import EpochFinished

if TYPE_CHECKING:
    import keras

MAX_FAILURES: Final = 2
"""Restarts of the workers before the training fails."""

_POLL_SECONDS: Final = 0.5

_SECONDS_TO_END: Final = 30.0


def finetune_on_ray(
    network: keras.Model,
    examples: Examples,
    on_epoch: Callable[[EpochFinished], None],
    *,
    workers: int,
    gpus: int = 0,
    folder: Path,
) -> int:
    """Fine-tune by several workers, equal to `finetune` up to float error.

    A worker that dies costs at most an epoch: all start again from the end of the last one.

    Args:
        network: As for `finetune`.
        examples: As for `finetune`. The tiles are written to `folder`, where the workers map them into
            memory, unless they are there already, as `TILES_FILE`. The recipe's `batch_size` is that of all
            workers together.
        on_epoch: Called once for every epoch, in order, in the calling thread.
        workers: Processes that share every batch, a CPU and a thread each.
        gpus: Of each worker, 0 or 1.
        folder: A folder that every node of the cluster can write to, with nothing else in it; the caller's
            to remove.

    Returns:
        As `finetune`.

    Raises:
        ClusterError: Too few CPUs or GPUs, a node that cannot see `folder`, no room in it, or a training
            that failed for good.
    """
    folder = folder.absolute()
    with ray_session(workers):
        import ray

        _require_processors(workers, gpus)
        _write_job(folder, in_precision(network, examples.recipe.precision), examples)
        require_shared(folder)
        fit = ray.remote(num_cpus=0, max_retries=0)(_fit).remote(
            folder, workers, gpus, examples.recipe, examples.seed
        )
        reported = 0
        try:
            while not ray.wait([fit], timeout=_POLL_SECONDS)[0]:
                reported = _report_epochs(folder, reported, on_epoch)
            ray.get(fit)
        except ray.exceptions.RayError as fault:
            raise ClusterError(
                f"The distributed training failed: {_last_line(fault)}.",
                "Run it again; leave --train-workers out to train in one process and see the fault there.",
            ) from fault
        finally:
            _end(fit)
    _report_epochs(folder, reported, on_epoch)
    state = State.read(folder / STATE_FILE)
    network.set_weights(state.best_weights)
    return state.best


def _end(fit: Any) -> None:
    """Cancel what `_fit` started, unless it is over.

    Ray Train ends itself on Ctrl-C, which is how Ray cancels a task: its workers go and their placement
    group with them. Ending it by force leaves the group, and its CPUs, reserved for as long as Ray
    lives: the actor that Ray Train leaves behind to give them back needs Ray's dashboard.
    """
    import ray

    # Only what is not over is cancelled: Ray 2.60 can abort this process ("Tried to complete task that was
    # not pending") where a task ends meanwhile.
    if ray.wait([fit], timeout=0)[0]:
        return
    over: list[Any] = []
    try:
        ray.cancel(fit)
        over, _ = ray.wait([fit], timeout=_SECONDS_TO_END)
    finally:
        if not over:
            ray.cancel(fit, force=True)


def require_shared(folder: Path) -> None:
    """Check that every node that could get a worker sees a folder.

    Raises:
        ClusterError: One does not, or does not answer.
    """
    require_on_every_node(
        [str(folder / TILES_FILE)],
        "Training workers meet there: put the model registry (--models) on a file system that all nodes "
        "share, or train on one machine: unset RAY_ADDRESS.",
    )


def _require_processors(workers: int, gpus: int) -> None:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if (has := int(resources.get("GPU", 0))) < workers * gpus:
        raise ClusterError(
            f"{workers} training workers need a GPU each, and Ray has {has or 'none'}.",
            "Leave --gpus-per-worker out to train on CPUs, take as many --train-workers as there are GPUs, "
            "or set RAY_ADDRESS to a cluster that has them.",
        )
    cpus = int(resources.get("CPU", 0))
    if cpus < workers:
        raise ClusterError(
            f"{workers} training workers need a CPU each, and Ray has {cpus}.",
            f"Ask for --train-workers {max(cpus, 2)}, or add nodes to the cluster.",
        )


def _write_job(folder: Path, network: keras.Model, examples: Examples) -> None:
    try:
        if not (folder / TILES_FILE).exists():
            np.save(folder / TILES_FILE, examples.tiles)
        names = ("labels", "train", "validation")
        rows: dict[str, Any] = {name: getattr(examples, name) for name in names}
        np.savez(folder / "rows.npz", **rows)
        (folder / "network.json").write_text(network.to_json())
        State.first(network.get_weights()).write(folder / STATE_FILE)
    except OSError as fault:
        raise ClusterError(
            f"The tiles cannot be written for the training workers below {folder}: {fault.strerror}.",
            f"Free {examples.tiles.nbytes / 2**20:,.0f} MiB there, or choose another folder with --models.",
        ) from fault


def _fit(folder: Path, workers: int, gpus: int, recipe: FinetuneRecipe, seed: int) -> None:
    """Run Ray Train; cancelling this task ends all that it started."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from crackmodel.models.training.distributed.replica import TensorFlowCluster, run_replica

    trainer = DataParallelTrainer(
        run_replica,
        train_loop_config={"folder": str(folder), "recipe": recipe, "seed": seed, "gpus": gpus},
        backend_config=TensorFlowCluster(),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1},
        ),
        run_config=RunConfig(
            name="run", storage_path=str(folder), failure_config=FailureConfig(max_failures=MAX_FAILURES)
        ),
    )
    trainer.fit()


def _report_epochs(folder: Path, reported: int, on_epoch: Callable[[EpochFinished], None]) -> int:
    epochs = State.read_history(folder / STATE_FILE)
    for epoch in epochs[reported:]:
        on_epoch(epoch)
    return len(epochs)


def _last_line(fault: BaseException) -> str:
    lines = [line for line in str(fault).splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:300] if lines else type(fault).__name__
