"""Whose fault it is when no image so far could be scored: the images', the workers', or the storage's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crackmodel.errors import ClusterError, SurveyError, printable
from crackmodel.scoring.isolation.subprocess_scorer import LOST_CODES
from crackmodel.scoring.task import ShardResult

_LOST_WITHOUT_SUCCESS: Final = 3
"""After so many images that no process survived, and no shard that one did, workers are doubted."""

_UNREAD_IN_A_ROW: Final = 10
"""After so many images that the storage kept back, and no shard in between, the storage is doubted: each
takes as long as an image may take, and for each of them a worker was lost before."""


class Suspicion:
    """Holds back rejections of images that no worker survived, until one has survived something.

    An image that only waited for its storage says nothing about workers. Its row can be believed at once,
    because the next run tries it again.

    Args:
        worker_works: Lets a worker score a picture that is known to be harmless, and says whether it did.
            Asked only where every image ended, or had hung, in a process of its own.
    """

    def __init__(self, worker_works: Callable[[], bool]) -> None:
        self._worker_works = worker_works
        self._lost: list[ShardResult] = []
        self._cleared = False
        self._unread = 0

    def pass_on(self, result: ShardResult, *, survived: bool) -> list[ShardResult]:
        """Take a result, and return what can be believed.

        Args:
            result: Of a shard.
            survived: The process that scored it did; else it is the rejection of a single image.

        Raises:
            ClusterError: It seems that no worker survives any image.
            SurveyError: It seems that the storage gives no file any more.
        """
        if not survived and result.rejected["unreadable"]:
            self._unread += 1
            if self._unread >= _UNREAD_IN_A_ROW:
                raise SurveyError(
                    f"{self._unread} images, one after the other, could not be read; the last was "
                    f"{printable(result.rejections[0])}.",
                    "Look on every node whether the survey's storage answers, then run the same command "
                    "again: what was committed stays, and images that could not be read are tried again.",
                )
            return [result]
        self._unread = 0
        self._lost.append(result)
        if survived:
            self._cleared = True
        elif not self._cleared and len(self._lost) >= _LOST_WITHOUT_SUCCESS:
            if not (self._all_alone() and self._worker_works()):
                raise ClusterError(
                    "Ray's workers die or hang on every image.",
                    "Look at Ray's logs (/tmp/ray/session_latest/logs); too little memory is the usual "
                    "reason. Then run the same command again.",
                )
            self._cleared = True
        return self.rest() if self._cleared else []

    def rest(self) -> list[ShardResult]:
        """Return what is held back."""
        rest, self._lost = self._lost, []
        return rest

    def _all_alone(self) -> bool:
        """Whether each was lost in a process of its own, and not with a worker that something else ended."""
        return all(not LOST_CODES.isdisjoint(lost.rejected) for lost in self._lost)
