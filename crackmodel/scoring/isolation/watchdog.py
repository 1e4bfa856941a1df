"""A time limit for a worker that hangs."""

from __future__ import annotations

import faulthandler
import time
from types import TracebackType
from typing import Final, Self

_SECONDS_BETWEEN_RENEWALS: Final = 1.0
"""Renewing starts a thread: 50 us, which small patches need not pay each."""


class Deadline:
    """A time limit that ends this process unless `renew` is called.

    The timer is `faulthandler`'s: a thread that needs no interpreter lock, so that a decoder which hangs in
    native code is ended too. It writes every thread's traceback to standard error before, which Ray keeps in
    the worker's log. There is one such timer in a process.

    Args:
        seconds: Longest time between two calls of `renew`, that is between two images.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._renewed = float("-inf")

    def __enter__(self) -> Self:
        self._renewed = float("-inf")
        self.renew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()

    def renew(self) -> None:
        """Start the time limit anew."""
        now = time.monotonic()
        if now - self._renewed >= _SECONDS_BETWEEN_RENEWALS:
            faulthandler.dump_traceback_later(self._seconds + _SECONDS_BETWEEN_RENEWALS, exit=True)
            self._renewed = now
