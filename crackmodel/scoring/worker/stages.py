"""Measure how long the stages of a shard take."""

from __future__ import annotations

import time
from typing import Final

STAGES: Final = ("fetch", "decode", "tile", "engine", "write")
"""`fetch` waits for files, which threads read ahead; `decode` reads metadata too; `tile` cuts and resizes."""


class StageWatch:
    """A stopwatch; each lap counts for the stage that ends.

    A lap takes 0.2 us and an image has five, which is less than a thousandth of what scoring it takes.
    """

    __slots__ = ("_last", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now
