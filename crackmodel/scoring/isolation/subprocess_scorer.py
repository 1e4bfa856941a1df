"""Score one image that has killed its worker, or hung in it, in a process that may die.

Whoever looks on from outside can tell what happened: which signal ended the process, or that its time was up.
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
"""Until the process says that it knows its image; after that it names what it does, as `score_shard` does."""

_START_SECONDS: Final = 120.0
"""A process starts in seconds, but perhaps from a share that is slow, on a machine that has much to do."""

_GRACE_SECONDS: Final = 30.0
"""How much longer the process gives itself than its parent does: it must end where its parent was killed."""


def score_suspect(job: ScoringJob, shard: Shard) -> ShardResult:
    """Score a shard of a single image in a process of its own.

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
    answers, mouth = Pipe(duplex=False)
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(mouth.fileno())],
        stdin=subprocess.PIPE,
        stdout=2,  # what libraries print belongs into the worker's log
        pass_fds=[mouth.fileno()],
        # A worker's path may have been made by its job (a working directory), not by its environment.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    mouth.close()
    with child, answers:
        try:
            _ask(child, pickle.dumps((job, shard)))
            doing, answer = _listen(child, answers, job.image_seconds)
            ended = child.returncode
        finally:
            child.kill()
    if isinstance(answer, CrackmodelError):
        raise answer
    if answer is not None:
        return answer
    if doing == _STARTING:
        raise ClusterError(
            f"A worker on {platform.node()} cannot start a process of its own: it {_ending(ended)} "
            "before it had looked at any image.",
            "Look at Ray's logs (/tmp/ray/session_latest/logs) there; too little memory is the usual "
            "reason. Then run the same command again: what was committed stays.",
        )
    if ended is not None:
        detail = f"its process {_ending(ended)}, also with no other image in it"
        return reject_shard(job, shard, "worker_crashed", detail)
    if doing == "fetch":
        detail = f"the storage had not given the file after {job.image_seconds:g} s"
        return reject_shard(job, shard, "unreadable", detail, stage="fetch")
    if doing == "write":
        raise ReportWriteFailed(
            f"The storage of {job.report} did not take a row within {job.image_seconds:g} s.",
            "Check the storage and run again; shards that were committed stay and are not scored twice.",
        )
    detail = f"it took longer than {job.image_seconds:g} s, also in a process of its own"
    return reject_shard(job, shard, "timed_out", detail)


def _ask(child: subprocess.Popen[bytes], question: bytes) -> None:
    """Hand the question over without waiting: a process that hangs before it reads would never take it."""
    pipe, child.stdin = child.stdin, None  # which only the thread closes

    def write() -> None:
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError), pipe:
                pipe.write(question)

    Thread(target=write, daemon=True).start()


def _listen(
    child: subprocess.Popen[bytes], answers: Connection, seconds: float
) -> tuple[str, _Answer | None]:
    """Return what the process did last and its answer: None if it died, or took too long, over that."""
    doing = _STARTING
    while answers.poll(_START_SECONDS if doing == _STARTING else seconds):
        try:
            heard: str | _Answer = answers.recv()
        except (EOFError, OSError):  # the end of a message that had begun is an OSError
            child.wait()
            return doing, None
        if not isinstance(heard, str):
            return doing, heard
        doing = heard
    return doing, None


def _ending(code: int | None) -> str:
    if code is None:
        return f"took longer than {_START_SECONDS:g} s"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _answer(mouth: Connection) -> None:
    """Be the process: read a job and a shard, score it, say what is being done and what came of it."""
    from crackmodel.scoring.worker.batching import cached_engine
    from crackmodel.scoring.worker.shard import score_shard

    job, shard = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    with Deadline(job.image_seconds + _GRACE_SECONDS) as deadline:

        def tell(doing: str) -> None:
            deadline.renew()
            mouth.send(doing)

        try:
            cached_engine(job.model)
            tell("fetch")
            result: _Answer = score_shard(job, shard, on_stage=tell)
        except CrackmodelError as error:
            result = error
    mouth.send(result)


if __name__ == "__main__":
    _answer(Connection(int(sys.argv[1]), readable=False))
