"""Numbers in the Delta log that keep writers of one survey apart.

They work where nothing can be locked. The log keeps a number for every survey (a Delta application
transaction). A run remembers it when it begins, and each of its commits raises it. A run that finds it raised
by another stops: both may have scored the same images. Of two commits that raise one number at the same time,
Delta Lake refuses the later. Compactions have numbers of their own, because they do not disturb a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.transaction import AddAction, RemoveAction

from crackmodel.errors import ReportBusy
from crackmodel.reports.schema import PARTITION_COLUMN, REPORT_SCHEMA
from crackmodel.storage.location import Location

_COMMIT_RETRIES: Final = 100
"""How often a commit steps behind another writer's; Delta's own 15 are few when many runs end together."""

_COMMITS_SEARCHED: Final = 100
"""How many commits to search for the other run's name."""


class Fence:
    """The numbers of surveys that one writer has remembered.

    Args:
        table: The report; its owner keeps it up to date.
        report: Where it is.
        of: What raises the numbers: the runs of a survey, or its compactions.
    """

    def __init__(
        self, table: DeltaTable, report: Location, of: Literal["survey", "compaction"] = "survey"
    ) -> None:
        self._table = table
        self._report = report
        self._of = of
        self._known: dict[str, int] = {}

    def remember(self, survey: str) -> None:
        """Remember a survey's number, which only this writer may raise now."""
        self._known[survey] = self._number(survey)

    def knows(self, survey: str) -> bool:
        """Whether the survey's number was remembered."""
        return survey in self._known

    def is_raised(self, survey: str) -> bool:
        """Whether another writer has raised a number that was remembered."""
        return self._known.get(survey, self._number(survey)) != self._number(survey)

    def require_unraised(self, surveys: Iterable[str], run_id: str) -> None:
        """Check that no other run has committed to these surveys.

        Raises:
            ReportBusy: One has; the message names it.
        """
        for survey in filter(self.is_raised, surveys):
            raise ReportBusy(
                f"Survey {survey!r} is being scored into {self._report} by another run"
                f"{self._winner(survey, run_id)}, which has committed rows since this one began.",
                "Wait until that run ends, then run again: what is scored by then is skipped, "
                "and no image gets a second row.",
            )

    def transactions(self, surveys: Iterable[str]) -> list[Transaction]:
        """Return what makes a commit raise the remembered numbers."""
        known = filter(self.knows, surveys)
        return [Transaction(f"{self._of}:{survey}", self._known[survey] + 1) for survey in known]

    def note_commit(self, surveys: Iterable[str]) -> None:
        """Note, once, that a commit with `transactions` is in the log."""
        for survey in filter(self.knows, surveys):
            self._known[survey] += 1

    def _number(self, survey: str) -> int:
        number = self._table.transaction_version(f"{self._of}:{survey}")
        return -1 if number is None else int(number)

    def _winner(self, survey: str, run_id: str) -> str:
        """Name the last other run that committed, if the log says so.

        deltalake's own `history` blocks every other thread of the process until the storage has answered.
        """
        newest = int(self._table.version())
        for version in range(newest, max(newest - _COMMITS_SEARCHED, -1), -1):
            try:
                log = (self._report / "_delta_log" / f"{version:020d}.json").read_bytes()
                actions = [json.loads(line) for line in log.splitlines()]
            except (OSError, ValueError):
                break
            commit: dict[str, Any] = next(
                (action["commitInfo"] for action in actions if "commitInfo" in action), {}
            )
            if commit.get("survey") == survey and commit.get("run_id") not in (None, run_id):
                return f", {commit['run_id']}"
        return ""


def commit_actions(
    table: DeltaTable,
    actions: Sequence[AddAction | RemoveAction],
    transactions: Sequence[Transaction],
    metadata: Mapping[str, Any],
) -> None:
    """Add and remove files in one commit to a report's log.

    Raises:
        CommitFailedError: Another writer has raised one of the numbers in `transactions`.
        DeltaError: The storage did not take the commit.
    """
    table.create_write_transaction(
        list(actions),
        mode="append",
        schema=REPORT_SCHEMA,
        partition_by=[PARTITION_COLUMN],
        commit_properties=CommitProperties(
            custom_metadata=dict(metadata),
            max_commit_retries=_COMMIT_RETRIES,
            app_transactions=list(transactions),
        ),
    )
