"""Whose fault it is when every image so far has killed its worker: the images', or the workers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crackmodel.errors import ClusterError
from crackmodel.scoring.job import ShardResult

_LOST_WITHOUT_SUCCESS: Final = 3
"""After so many images that no process survived, and no shard that one did, workers are doubted."""


class Suspicion:
    """Holds back rejections of images that no worker survived, until one has survived something.

    Args:
        worker_works: Lets a worker score a picture that is known to be harmless, and says whether it did.
            Asked only where every image ended its process by itself: one that hung may have waited for
            storage that does not answer, and a picture that comes from no storage would tell nothing.
    """

    def __init__(self, worker_works: Callable[[], bool]) -> None:
        self._worker_works = worker_works
        self._lost: list[ShardResult] = []
        self._cleared = False

    def pass_on(self, result: ShardResult, *, survived: bool) -> list[ShardResult]:
        """Take a result, and return what can be believed.

        Args:
            result: Of a shard.
            survived: The process that scored it did; else it is the rejection of a single image.

        Raises:
            ClusterError: It seems that no worker survives any image.
        """
        self._lost.append(result)
        if survived:
            self._cleared = True
        elif not self._cleared and len(self._lost) >= _LOST_WITHOUT_SUCCESS:
            if not (self._all_crashed() and self._worker_works()):
                raise ClusterError(
                    "Ray's workers die or hang on every image.",
                    "Look at Ray's logs (/tmp/ray/session_latest/logs); too little memory, or storage that "
                    "does not answer, are the usual reasons. Then run the same command again.",
                )
            self._cleared = True
        return self.rest() if self._cleared else []

    def rest(self) -> list[ShardResult]:
        """Return what is held back."""
        rest, self._lost = self._lost, []
        return rest

    def _all_crashed(self) -> bool:
        return all(lost.rejected["worker_crashed"] for lost in self._lost)
