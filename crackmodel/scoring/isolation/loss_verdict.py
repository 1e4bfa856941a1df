"""Decide whether images, workers or the storage cause losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crackmodel.errors import ClusterError, SurveyError
from crackmodel.scoring.isolation.subprocess_scorer import LOST_CODES
from crackmodel.scoring.task import ShardResult
from crackmodel.text import printable

_LOST_WITHOUT_SUCCESS: Final = 3
"""After so many images that no process survived, and no shard that one did, the workers are tested."""

_UNREAD_IN_A_ROW: Final = 10
"""After so many images that could not be read, and no shard in between, the storage is to blame: each takes
as long as an image may take, and for each of them a worker was lost before."""


class LossVerdict:
    """Holds back rejections of lost images until a worker has scored something.

    An image that only waited for its storage says nothing about workers. Its row is accepted at once, because
    the next run tries it again.

    Args:
        worker_works: Lets a worker score a harmless picture, and returns whether it did. Called only where
            every image ended, or hung, in a process of its own.
    """

    def __init__(self, worker_works: Callable[[], bool]) -> None:
        self._worker_works = worker_works
        self._held_back: list[ShardResult] = []
        self._workers_work = False
        self._unread = 0

    def accept(self, result: ShardResult, *, survived: bool) -> list[ShardResult]:
        """Take a result, and return those that are certain now.

        Args:
            result: Of a shard.
            survived: The process that scored it did; else it is the rejection of a single image.

        Raises:
            ClusterError: It seems that no worker survives any image.
            SurveyError: It seems that the storage does not answer any more.
        """
        if not survived and result.rejected["unreadable"]:
            self._unread += 1
            if self._unread >= _UNREAD_IN_A_ROW:
                raise SurveyError(
                    f"{self._unread} images in a row could not be read; the last was "
                    f"{printable(result.rejections[0])}.",
                    "Check on every node whether the survey's storage answers, then run the same command "
                    "again: what was committed stays, and images that could not be read are tried again.",
                )
            return [result]
        self._unread = 0
        self._held_back.append(result)
        if survived:
            self._workers_work = True
        elif not self._workers_work and len(self._held_back) >= _LOST_WITHOUT_SUCCESS:
            if not (self._all_lost_alone() and self._worker_works()):
                raise ClusterError(
                    "Ray's workers die or hang on every image.",
                    "Look at Ray's logs (/tmp/ray/session_latest/logs); too little memory is the usual "
                    "reason. Then run the same command again.",
                )
            self._workers_work = True
        return self.held_back() if self._workers_work else []

    def held_back(self) -> list[ShardResult]:
        """Return the results that are held back, and forget them."""
        results, self._held_back = self._held_back, []
        return results

    def _all_lost_alone(self) -> bool:
        """Check that each image was lost in a process of its own."""
        return all(not LOST_CODES.isdisjoint(result.rejected) for result in self._held_back)
