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
from typing import Final

from crackmodel.errors import ClusterError, CrackmodelError
from crackmodel.scoring.deadline import Deadline
from crackmodel.scoring.job import ScoringJob, ShardResult
from crackmodel.scoring.rows import reject_shard
from crackmodel.scoring.shards import Shard

LOST_CODES: Final = frozenset({"worker_crashed", "timed_out"})
"""How an image is rejected that no process survives."""

_Answer = ShardResult | CrackmodelError

_READY: Final = b"+"

_GRACE_SECONDS: Final = 30.0
"""How much longer the process gives itself than its parent does: it must end where its parent was killed."""


def score_suspect(job: ScoringJob, shard: Shard) -> ShardResult:
    """Score a shard of a single image in a process of its own.

    Args:
        job: The run; `image_seconds` is how long the process may take from the moment when it begins.
        shard: One image.

    Returns:
        What scoring it gives, or the result of rejecting it as `worker_crashed` or `timed_out`.

    Raises:
        ClusterError: The process did not get as far as the image.
        CrackmodelError: As `score_shard`.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A worker's path may have been made by its job (a working directory), not by its environment.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with child:
        try:
            answer = _ask(child, pickle.dumps((job, shard)), job.image_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            detail = f"it took longer than {job.image_seconds:g} s, also in a process of its own"
            return reject_shard(job, shard, "timed_out", detail)
    if isinstance(answer, CrackmodelError):
        raise answer
    if answer is None:
        detail = f"its process {_ending(child.returncode)}, also with no other image in it"
        return reject_shard(job, shard, "worker_crashed", detail)
    return answer


def _ask(child: subprocess.Popen[bytes], question: bytes, seconds: float) -> _Answer | None:
    """Return what the process answers; None if it dies over the question."""
    if child.stdin is None or child.stdout is None:
        raise ValueError("the process has no pipes")
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(question)
        child.stdin.close()
    child.stdin = None  # or `communicate` would close it again
    if child.stdout.read(1) != _READY:
        raise ClusterError(
            f"A worker on {platform.node()} cannot start a process of its own: it {_ending(child.wait())} "
            "before it had looked at any image.",
            "Look at Ray's logs (/tmp/ray/session_latest/logs) there; too little memory is the usual "
            "reason. Then run the same command again: what was committed stays.",
        )
    answer, _ = child.communicate(timeout=seconds)
    if child.returncode or not answer:
        return None
    found: _Answer = pickle.loads(answer)  # noqa: S301 - from our own child
    return found


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _answer() -> None:
    """Be the process: read a job and a shard, score it, write what came of it."""
    from crackmodel.scoring.worker import score_shard

    # Whatever libraries print must not get into the answer.
    answer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    job, shard = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    answer.write(_READY)
    try:
        with Deadline(job.image_seconds + _GRACE_SECONDS):
            result: _Answer = score_shard(job, shard)
    except CrackmodelError as error:
        result = error
    with answer:
        answer.write(pickle.dumps(result))


if __name__ == "__main__":
    _answer()
