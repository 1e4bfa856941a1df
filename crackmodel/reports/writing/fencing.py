"""Two runs of one survey at once, where nothing but the Delta log can tell them of each other.

The log keeps a number for every survey. A run remembers the number when it reads what is left to score, and
each of its commits moves it on. Who finds that somebody else has moved it stops: what it holds may have been
scored twice. Delta Lake itself refuses the later of two commits that move one number at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from deltalake import DeltaTable, Transaction

from crackmodel.errors import ReportBusy
from crackmodel.storage.location import Place

_WINNER_AMONG: Final = 100
"""How many commits to look through for the one of the other run."""


class Fence:
    """What one run knows of the numbers of its surveys.

    Args:
        table: The report; its owner keeps it up to date.
        place: Where it is.
    """

    def __init__(self, table: DeltaTable, place: Place) -> None:
        self._table = table
        self._place = place
        self._known: dict[str, int] = {}

    def remember(self, survey: str) -> None:
        """Take a survey's number as it is now: from here on only this run may move it."""
        self._known[survey] = self._number(survey)

    def is_unmoved(self, surveys: Iterable[str]) -> bool:
        """Whether these surveys were all remembered, and nobody has moved their numbers since."""
        return all(self._known.get(survey) == self._number(survey) for survey in surveys)

    def require_unmoved(self, surveys: Iterable[str], run_id: str) -> None:
        """Check that no other run has committed to the surveys that were remembered.

        Raises:
            ReportBusy: One has; the message names it.
        """
        for survey in surveys:
            if self._known.get(survey, self._number(survey)) != self._number(survey):
                raise ReportBusy(
                    f"Survey {survey!r} is being scored into {self._place.uri} by another run"
                    f"{self._winner(survey, run_id)}, which has committed rows since this one began.",
                    "Wait until that run ends, then run again: what is scored by then is skipped, "
                    "and no image gets a second row.",
                )

    def moves(self, surveys: Iterable[str]) -> list[Transaction]:
        """Return what a commit has to carry in order to move the numbers that were remembered."""
        return [
            Transaction(_name(survey), self._known[survey] + 1) for survey in surveys if survey in self._known
        ]

    def moved(self, surveys: Iterable[str]) -> None:
        """Note that a commit which carried `moves` is in the log; once for each commit."""
        for survey in self._known.keys() & set(surveys):
            self._known[survey] += 1

    def _number(self, survey: str) -> int:
        number = self._table.transaction_version(_name(survey))
        return -1 if number is None else int(number)

    def _winner(self, survey: str, run_id: str) -> str:
        """Name the last other run that committed to a survey; empty where the log does not tell.

        deltalake's own `history` stops every other thread of the process until the storage has answered.
        """
        newest = int(self._table.version())
        for version in range(newest, max(newest - _WINNER_AMONG, -1), -1):
            try:
                commit = self._commit(version)
            except (OSError, ValueError):
                break
            if commit.get("survey") == survey and commit.get("run_id") not in (None, run_id):
                return f", {commit['run_id']}"
        return ""

    def _commit(self, version: int) -> dict[str, Any]:
        """What a commit says of itself."""
        path = self._place.inside(f"_delta_log/{version:020d}.json")
        with self._place.filesystem.open_input_stream(path) as stream:
            actions = [json.loads(line) for line in stream.read().splitlines()]
        return next((action["commitInfo"] for action in actions if "commitInfo" in action), {})


def _name(survey: str) -> str:
    return f"survey:{survey}"
