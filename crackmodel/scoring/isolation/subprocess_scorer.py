"""Score one dangerous image in a process that may die.

The image has killed its worker, or hung in it. The parent sees what happens: which signal ended the process,
or that its time was up.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Thread
from typing import Final

from crackmodel.errors import ClusterError, CrackmodelError, ReportWriteFailed
from crackmodel.scoring.isolation.watchdog import Deadline
from crackmodel.scoring.plan import Shard
from crackmodel.scoring.task import ScoringJob, ShardResult
from crackmodel.scoring.worker.rows import reject_shard

LOST_CODES: Final = frozenset({"worker_crashed", "timed_out"})
"""How an image is rejected that no process survives."""

_Answer = ShardResult | CrackmodelError

_STARTING: Final = "start"
"""The stage until the process has its image; the others are those of `score_shard`."""

_START_SECONDS: Final = 120.0
"""A process starts in seconds, but perhaps from a slow share, on a busy machine."""

_GRACE_SECONDS: Final = 30.0
"""How much longer the process gives itself than its parent does: it must end where its parent was killed."""


def score_in_subprocess(job: ScoringJob, shard: Shard) -> ShardResult:
    """Score a single image in a process of its own.

    Args:
        job: The run; `image_seconds` is how long the process may wait for the file, and again how long it
            may take to score it.
        shard: One image.

    Returns:
        What scoring it gives, or the result of rejecting it: as `unreadable` if its storage does not give
        the file in that time, as `worker_crashed` or `timed_out` if no process survives it.

    Raises:
        ClusterError: The process did not get as far as the image, or not in two minutes.
        ReportWriteFailed: As `score_shard`, or the storage does not take the row in that time.
        CrackmodelError: As `score_shard`.
    """
    receiver, sender = Pipe(duplex=False)
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(sender.fileno())],
        stdin=subprocess.PIPE,
        stdout=2,  # what libraries print belongs into the worker's log
        pass_fds=[sender.fileno()],
        # A worker's path may have been made by its job (a working directory), not by its environment.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    sender.close()
    with child, receiver:
        try:
            _send(child, pickle.dumps((job, shard)))
            stage, answer = _receive(child, receiver, job.settings.image_seconds)
            ended = child.returncode
        finally:
            child.kill()
    if isinstance(answer, CrackmodelError):
        raise answer
    if answer is not None:
        return answer
    if stage == _STARTING:
        raise ClusterError(
            f"A worker on {platform.node()} cannot start a process of its own: it {_ending(ended)} "
            "before it had read any image.",
            "Look at Ray's logs (/tmp/ray/session_latest/logs) there; too little memory is the usual "
            "reason. Then run the same command again: what was committed stays.",
        )
    if ended is not None:
        detail = f"its process {_ending(ended)}, also with no other image in it"
        return reject_shard(job, shard, "worker_crashed", detail)
    if stage == "fetch":
        detail = f"the storage had not given the file after {job.settings.image_seconds:g} s"
        return reject_shard(job, shard, "unreadable", detail, stage="fetch")
    if stage == "write":
        raise ReportWriteFailed(
            f"The storage of {job.report} did not take a row within {job.settings.image_seconds:g} s.",
            "Check the storage and run again; shards that were committed stay and are not scored twice.",
        )
    detail = f"it took longer than {job.settings.image_seconds:g} s, also in a process of its own"
    return reject_shard(job, shard, "timed_out", detail)


def _send(child: subprocess.Popen[bytes], question: bytes) -> None:
    """Send the question in a thread, as the process may hang."""
    pipe, child.stdin = child.stdin, None  # which only the thread closes

    def write() -> None:
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError), pipe:
                pipe.write(question)

    Thread(target=write, daemon=True).start()


def _receive(
    child: subprocess.Popen[bytes], receiver: Connection, seconds: float
) -> tuple[str, _Answer | None]:
    """Return the process's last stage, and its answer or None."""
    stage = _STARTING
    while receiver.poll(_START_SECONDS if stage == _STARTING else seconds):
        try:
            received: str | _Answer = receiver.recv()
        except (EOFError, OSError):  # the end of a message that had begun is an OSError
            child.wait()
            return stage, None
        if not isinstance(received, str):
            return stage, received
        stage = received
    return stage, None


def _ending(code: int | None) -> str:
    if code is None:
        return f"took longer than {_START_SECONDS:g} s"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _main(sender: Connection, grace: float = _GRACE_SECONDS) -> None:
    """Receive a shard, score it, send each stage and the result."""
    from crackmodel.scoring.worker.batching import cached_engine
    from crackmodel.scoring.worker.shard import score_shard

    job, shard = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    with Deadline(job.settings.image_seconds + grace) as deadline:

        def send_stage(stage: str) -> None:
            deadline.renew()
            sender.send(stage)

        try:
            cached_engine(job.model)
            send_stage("fetch")
            answer: _Answer = score_shard(job, shard, on_stage=send_stage)
        except CrackmodelError as error:
            answer = error
    sender.send(answer)


if __name__ == "__main__":
    _main(Connection(int(sys.argv[1]), readable=False))
