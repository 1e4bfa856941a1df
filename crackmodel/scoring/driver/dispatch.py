"""Score shards, in this process or in Ray tasks."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, Final

import pyarrow as pa

from crackmodel.arrow_memory import keep_arrow_small
from crackmodel.cluster.capacity import Capacity, require_gpus
from crackmodel.cluster.nodes import is_import_failure, node_cannot_run, require_on_every_node
from crackmodel.cluster.session import ray_session
from crackmodel.errors import ClusterError, CrackmodelError
from crackmodel.scoring.driver.prometheus import RayCounters
from crackmodel.scoring.isolation.loss_verdict import LossVerdict
from crackmodel.scoring.isolation.subprocess_scorer import LOST_CODES, score_in_subprocess
from crackmodel.scoring.isolation.watchdog import Deadline
from crackmodel.scoring.plan import Shard, plan_shards
from crackmodel.scoring.run_events import Listener, WorkerLost, ignore
from crackmodel.scoring.task import ScoringJob, ShardResult
from crackmodel.scoring.worker.rows import reject_shard
from crackmodel.settings import ScoreSettings

Results = Generator[ShardResult | None, None, None]
"""Results as they come, and None every second while none comes, so that the caller can commit."""

_ATTEMPTS_AFTER_LOSS: Final = 1
"""How often Ray repeats a shard whose worker or node died, before it is cut. Prefect repeats nothing."""

_PROBE_SECONDS: Final = 120.0
"""A worker starts, loads the model and scores a grey picture in ten, but may have to wait for a CPU."""

_TICK_SECONDS: Final = 1.0


def scored_inline(job: ScoringJob, files: pa.Table, on_event: Listener = ignore) -> Results:
    """Score one shard after the other in this process, without Ray."""
    from crackmodel.scoring.worker.shard import score_shard

    for shard in _plan(files, job.settings, slots=1):
        yield score_shard(job, shard)


def scored_on_ray(job: ScoringJob, files: pa.Table, on_event: Listener = ignore) -> Results:
    """Score shards in Ray tasks, and yield results as they finish.

    A shard that kills its worker twice, or hangs in it, is cut in two until the image that does it is alone.
    That one is scored in a process of its own: see `score_in_subprocess`. All others are scored. Where the
    generator is closed early, what still runs ends with the Ray session, or, in one that goes on, by itself.

    Raises:
        ClusterError: Ray cannot be reached, or no longer; has too few GPUs, no node with a CPU for a quarter
            of an hour, or one that does not see a local survey or report; or no worker survives.
        CrackmodelError: What a shard raised, unchanged.
    """
    settings = job.settings
    with ray_session(settings.workers):
        import ray

        capacity = Capacity(settings.workers, settings.gpus_per_task, on_wait=on_event)
        slots = capacity.slots()
        require_gpus(settings.gpus_per_task)
        _require_nodes(job, files)
        task = ray.remote(num_cpus=1, num_gpus=settings.gpus_per_task)(_score_shard_task)
        shared_job = ray.put(job)
        fresh = _plan(files, settings, slots)
        again: deque[Shard] = deque()
        in_flight: dict[Any, Shard] = {}
        verdict = LossVerdict(lambda: _worker_works(shared_job, settings))
        counters = RayCounters(job.survey.name)
        # Where this ends early, what is in flight is left to the end of the session, which stops it, or, in
        # one that goes on, to itself: when a task begins or ends while `ray.cancel` is called, Ray 2.60
        # aborts this process ("Tried to complete task that was not pending").
        while True:
            room = capacity.room()
            while len(in_flight) < room:
                shard = again.popleft() if again else next(fresh, None)
                if shard is None:
                    break
                in_flight[task.options(max_retries=_retries(shard)).remote(shared_job, shard)] = shard
            if not in_flight:
                for accepted in verdict.held_back():
                    counters.count(accepted)
                    yield accepted
                return
            finished, _ = ray.wait(list(in_flight), num_returns=1, timeout=_TICK_SECONDS)
            if not finished:
                yield None
                continue
            shard = in_flight.pop(finished[0])
            result = _result(finished[0])
            survived = result is not None and not (_needs_own_process(shard) and _is_lost(result))
            if result is None:
                on_event(WorkerLost(job.run_id, shard.number, len(shard.files), shard.files[0].image))
                if not _needs_own_process(shard):
                    _cut(shard, again)
                    continue
                # Not in the process that was the image's own, so perhaps not by the image: memory was short.
                result = reject_shard(job, shard, "scoring_failed", "its worker or node died, twice")
            for accepted in verdict.accept(result, survived=survived):
                counters.count(accepted)
                yield accepted


def _require_nodes(job: ScoringJob, files: pa.Table) -> None:
    """Check that all nodes can score this survey into this report.

    Raises:
        ClusterError: A node cannot, or does not.
    """
    import ray

    if sum(node["Alive"] for node in ray.nodes()) < 2:  # type: ignore[no-untyped-call]
        return
    # An image, because an empty mount point is a folder too.
    survey = [] if job.survey.location.local is None else [f"{job.survey.uri}/{files['image'][0].as_py()}"]
    report = [] if job.report.local is None else [f"{job.report}/_delta_log"]
    require_on_every_node(
        survey + report,
        "Mount the same storage under the same path on every node, or put survey and report into an "
        "object store (s3://BUCKET/FOLDER); or unset RAY_ADDRESS to use this machine alone.",
    )


def _score_shard_task(job: ScoringJob, shard: Shard) -> ShardResult:
    """Score a shard on one CPU, without threads of libraries."""
    keep_arrow_small()
    import cv2

    from crackmodel.scoring.worker.shard import score_shard

    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # read when TensorFlow is first used
    with Deadline(job.settings.image_seconds) as deadline:
        if not _needs_own_process(shard):
            return score_shard(job, shard, deadline.renew)
    return score_in_subprocess(job, shard)


def _worker_works(job: Any, settings: ScoreSettings) -> bool:
    """Let a worker score a grey picture, and return whether it did."""
    import ray

    probe = ray.remote(num_cpus=1, num_gpus=settings.gpus_per_task, max_retries=0)(_score_grey)
    try:
        verdict: str = ray.get(probe.remote(job), timeout=_PROBE_SECONDS)
    except ray.exceptions.RayError:
        return False
    return verdict != "rejected"


def _score_grey(job: ScoringJob) -> str:
    import numpy as np

    from crackmodel.scoring.worker.batching import PictureScorer, cached_engine

    columns: dict[str, Any] = {}
    tile = job.settings.tile
    scorer = PictureScorer(job.model, cached_engine(job.model), tile=tile, overlap=job.settings.overlap)
    scorer.add(np.full((tile, tile, 3), 128, np.uint8), columns.update)
    scorer.finish()
    return str(columns["verdict"])


def _plan(files: pa.Table, settings: ScoreSettings, slots: int) -> Iterator[Shard]:
    return plan_shards(files, max_images=settings.shard_images, max_bytes=settings.shard_bytes, slots=slots)


def _cut(shard: Shard, again: deque[Shard]) -> None:
    """Put the halves of a shard, or its single image, in front.

    In front, because where nothing can be read, the first few single images show it: cut evenly, a shard of
    500 images takes hundreds of losses until the first one, and each takes as long as an image may.
    """
    middle = len(shard.files) // 2
    for half in (shard.files[middle:], shard.files[:middle]):
        if half:
            again.appendleft(Shard(shard.number, half, cut=True))


def _needs_own_process(shard: Shard) -> bool:
    return shard.cut and len(shard.files) == 1


def _is_lost(result: ShardResult) -> bool:
    """Whether no process survived the single image, or none could read it."""
    return not (LOST_CODES | {"unreadable"}).isdisjoint(result.rejected)


def _retries(shard: Shard) -> int:
    """Return how often Ray may repeat a shard."""
    return 0 if shard.cut and len(shard.files) > 1 else _ATTEMPTS_AFTER_LOSS


def _result(reference: Any) -> ShardResult | None:
    """Return a task's result; None if its worker died, repeats included."""
    import ray

    try:
        result: ShardResult = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CrackmodelError):
            raise error.cause from error
        if is_import_failure(error):  # a node that joined after all had been asked
            raise node_cannot_run(_node_address(error), error) from error
        raise
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    ):
        return None
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"Ray gave a shard up: {type(error).__name__}.",
            "What was committed is safe. Check the cluster (`ray status`) and run the same command again.",
        ) from error
    return result


def _node_address(error: Exception) -> str:
    """Find the node's address in the text of a task's error."""
    found = re.search(r"\bip=([^\s,)]+)", str(error))
    return found[1] if found else "(Ray does not say which)"
