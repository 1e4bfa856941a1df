"""Hand shards out and yield what comes back: in this process, or to Ray tasks."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

import pyarrow as pa

from crackmodel.cluster import ray_session
from crackmodel.errors import ClusterError, CrackmodelError
from crackmodel.scoring.shards import Shard, plan_shards
from crackmodel.scoring.worker import ScoringJob, ShardResult, score_shard
from crackmodel.settings import ScoreSettings

_SHARDS_IN_FLIGHT_PER_SLOT: Final = 2
"""One that runs and one that waits, so that a slot never idles; the rest is not even cut yet."""

_ATTEMPTS_AFTER_LOSS: Final = 2
"""How often Ray repeats a shard whose worker or node died. Prefect repeats nothing."""


def scored_inline(
    job: ScoringJob, files: pa.Table, settings: ScoreSettings
) -> Generator[ShardResult, None, None]:
    """Score one shard after the other in this process, without Ray."""
    for shard in _plan(files, settings, slots=1):
        yield score_shard(job, shard)


def scored_on_ray(
    job: ScoringJob, files: pa.Table, settings: ScoreSettings
) -> Generator[ShardResult, None, None]:
    """Score shards in Ray tasks, a bounded number in flight, and yield results as they finish.

    Closing the generator early cancels what is still running.

    Raises:
        ClusterError: Ray cannot be reached, or lost the worker of a shard too often.
        CrackmodelError: What a shard raised, unchanged.
    """
    with ray_session(settings.workers):
        import ray

        slots = _slots(settings)
        task = ray.remote(num_cpus=1, max_retries=_ATTEMPTS_AFTER_LOSS)(_score_shard_task)
        shared_job = ray.put(job)
        waiting: Iterator[Shard] = _plan(files, settings, slots)
        in_flight: dict[Any, Shard] = {}
        try:
            while True:
                while len(in_flight) < slots * _SHARDS_IN_FLIGHT_PER_SLOT:
                    if (shard := next(waiting, None)) is None:
                        break
                    in_flight[task.remote(shared_job, shard)] = shard
                if not in_flight:
                    return
                finished, _ = ray.wait(list(in_flight), num_returns=1)
                yield _result(finished[0], in_flight.pop(finished[0]))
        finally:
            for reference in in_flight:
                ray.cancel(reference, force=True)


def _score_shard_task(job: ScoringJob, shard: Shard) -> ShardResult:
    """Score a shard on one CPU: a task slot is one core, so no library may start threads of its own."""
    import cv2

    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    return score_shard(job, shard)


def _plan(files: pa.Table, settings: ScoreSettings, slots: int) -> Iterator[Shard]:
    return plan_shards(files, max_images=settings.shard_images, max_bytes=settings.shard_bytes, slots=slots)


def _slots(settings: ScoreSettings) -> int:
    """Count the tasks that can run at once: the cluster's CPUs, or `workers` if that is less."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    available = max(1, int(resources.get("CPU", 1)))
    return min(available, settings.workers or available)


def _result(reference: Any, shard: Shard) -> ShardResult:
    import ray

    try:
        result: ShardResult = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CrackmodelError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        first, last = shard.files[0].image, shard.files[-1].image
        raise ClusterError(
            f"Ray lost the worker of shard {shard.number} ({first} to {last}) for good: "
            f"{type(error).__name__}.",
            "What was committed is safe; run the same command again for the rest. If it stops there again, "
            "one of those images kills its worker: find it by moving half of them out, and half again.",
        ) from error
    return result
