"""A report as a Delta Lake table: opened, locked and committed to.

A row exists exactly when its shard was committed. So the table is the checkpoint of scoring: what it holds
need not be scored again, whatever happened since.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Self

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from crackmodel.errors import ReportBusy, ReportNotFound, ReportWriteFailed
from crackmodel.reports.compatibility import add_later_columns, is_vacant, load
from crackmodel.reports.reading.dataset import named_files, newest_run
from crackmodel.reports.report_location import locate_report, write_failed, writing
from crackmodel.reports.schema import PARTITION_COLUMN, REPORT_SCHEMA
from crackmodel.reports.writing.fencing import Fence, commit_actions
from crackmodel.reports.writing.lock import hold_survey
from crackmodel.reports.writing.shard_file import BOUNDED_COLUMNS, ShardFile
from crackmodel.storage.advice import raised_as
from crackmodel.storage.location import Location

_CHECKPOINT_INTERVAL: Final = 20
"""Commits between checkpoints of the log. A commit reads all since the last one: with deltalake's own 100
it takes 40 ms of CPU on average, with 20 half of that."""


class ReportTable:
    """A report, made with `open` or `open_or_create`.

    What reads it is in `crackmodel.reports.reading`, what tidies it in `crackmodel.reports.maintenance`.

    Attributes:
        place: Where the report is.
        uri: The same as an absolute local path or an object store URI.
        log: Its Delta table; `refresh` brings it up to date.
        fence: What this object knows of runs at the same time.
    """

    def __init__(self, place: Location, log: DeltaTable) -> None:
        self.place = place
        self.uri = place.uri
        self.log = log
        self.fence = Fence(log, place)
        self._committed: set[str] = set()

    @property
    def version(self) -> int:
        """Number of the newest commit that this object knows of."""
        return int(self.log.version())

    @classmethod
    def open(cls, uri: str | Path) -> Self:
        """Open an existing report; creates nothing.

        Raises:
            ReportNotFound: Nothing is there, or an empty folder.
            ReportIncompatible: A file, a folder with other things, another table, or an unreadable log.
            UsageError: The address makes no sense.
        """
        place = locate_report(uri)
        if is_vacant(place):
            raise ReportNotFound(
                f"There is no report at {place.uri}.",
                "Score a survey first (crackmodel score SURVEY), or point --report at an existing report.",
            )
        return cls(place, load(place))

    @classmethod
    def open_or_create(cls, uri: str | Path) -> Self:
        """Open a report, or create an empty one where none is.

        Two processes may do this at the same time; both get the same report. A report of an
        older crackmodel gets the columns that it lacks: see `schema.LATER_COLUMNS`.

        Raises:
            ReportIncompatible: The place holds something else.
            ReportWriteFailed: The report cannot be made or changed there.
            UsageError: The address makes no sense.
        """
        place = locate_report(uri)
        if is_vacant(place):
            try:
                DeltaTable.create(
                    place.delta_uri,
                    storage_options=place.delta_options or None,
                    schema=REPORT_SCHEMA,
                    mode="ignore",
                    partition_by=[PARTITION_COLUMN],
                    configuration={
                        "delta.checkpointInterval": str(_CHECKPOINT_INTERVAL),
                        "delta.dataSkippingStatsColumns": ",".join(BOUNDED_COLUMNS),
                    },
                    name="crackmodel report",
                    description="A row per scored image; see docs/report.md of crackmodel",
                )
            except (DeltaError, OSError) as error:
                if is_vacant(place):  # otherwise another process was faster, which is as good
                    raise write_failed(error, place.uri) from error
        log = load(place)
        with writing(place.uri, DeltaError):
            add_later_columns(log)
        return cls(place, log)

    def commit(self, files: Sequence[ShardFile], *, run_id: str) -> None:
        """Add files that `write_shard` returned and `publish_shard` published, all of them or none.

        What this object has committed is not committed again, so after any doubt the call may be repeated.

        Raises:
            ReportBusy: Another run has committed to the survey since this object's `begin`. The rows are
                not in the report, and the files are deleted.
            ReportWriteFailed: The rows are not in the report.
        """
        left = self._left_to_commit(files, run_id)
        if not left:
            return
        try:
            self._append(left, run_id)
        except (DeltaError, OSError) as error:
            with contextlib.suppress(ReportWriteFailed):  # the answer may be lost where the commit was not
                if not self._left_to_commit(left, run_id):
                    return
            raise write_failed(error, f"the commit of {len(files)} files to {self.uri}") from error
        self._note_committed(left)

    def begin(self, survey: str, run_id: str) -> None:
        """Begin a run of a survey.

        From here on `commit` stops when another run has committed to the survey.

        Raises:
            ReportBusy: Another run has committed to it since this one was named.
        """
        newest = newest_run(self, survey)
        if newest is not None and newest.partition("-")[0] >= run_id.partition("-")[0]:
            raise ReportBusy(
                f"Survey {survey!r} was scored into {self.uri} by run {newest} while this one began.",
                "Run again: what is scored by then is skipped.",
            )
        self.fence.remember(survey)

    def refresh(self) -> None:
        """Read what others have committed meanwhile.

        Raises:
            ReportWriteFailed: The log cannot be read any more.
        """
        with self.reading_log():
            self.log.update_incremental()

    def reading_log(self) -> AbstractContextManager[None]:
        """Raise a ReportWriteFailed that names the report when its log cannot be read."""
        return raised_as(
            ReportWriteFailed,
            f"The log of the report at {self.uri} cannot be read any more",
            "Check the storage and run again; what was committed stays.",
            DeltaError,
        )

    def lock(self, survey: str, run_id: str = "") -> AbstractContextManager[None]:
        """Lock a survey of a local report against other runs; see `hold_survey`.

        An object store has no lock; there `commit` keeps runs apart.
        """
        local = self.place.local
        return contextlib.nullcontext() if local is None else hold_survey(local, survey, run_id)

    def _append(self, files: Sequence[ShardFile], run_id: str) -> None:
        now = time.time_ns() // 1_000_000
        surveys = _surveys(files)
        commit_actions(
            self.log,
            [AddAction(file.path, file.bytes, file.partition, now, True, file.stats) for file in files],
            self.fence.transactions(surveys),
            {
                "run_id": run_id,
                "survey": ",".join(surveys),
                "files": len(files),
                "rows": sum(file.rows for file in files),
            },
        )

    def _left_to_commit(self, files: Sequence[ShardFile], run_id: str) -> list[ShardFile]:
        """Return the files that the newest log does not name.

        Brings the table up to date, as a commit needs. A file's name is never given twice, so it says which
        commit this is. While nobody has raised the numbers of the surveys, there was no commit, and the names
        need not be compared. Once another run has raised one, a commit of this run that is in doubt cannot
        succeed any more: its files, which Parquet readers would count, are deleted.

        Raises:
            ReportBusy: Another run has committed to a survey; the files are deleted.
            ReportWriteFailed: The log cannot be read.
        """
        left = [file for file in files if file.path not in self._committed]
        surveys = _surveys(left)
        with self.reading_log():
            self.log.update_incremental()
            if all(self.fence.knows(survey) and not self.fence.is_raised(survey) for survey in surveys):
                return left
            named = {name for survey in surveys for name in named_files(self.log, survey)}
        self._note_committed([file for file in left if file.name in named])
        left = [file for file in left if file.name not in named]
        try:
            self.fence.require_unraised(_surveys(left), run_id)
        except ReportBusy:
            for file in left:
                with contextlib.suppress(OSError):
                    self.place.filesystem.delete_file(self.place.inside(file.path))
            raise
        return left

    def _note_committed(self, files: Sequence[ShardFile]) -> None:
        """Note that these files, which one commit added, are in the log."""
        self._committed.update(file.path for file in files)
        self.fence.note_commit(_surveys(files))


def _surveys(files: Sequence[ShardFile]) -> list[str]:
    return sorted({file.partition[PARTITION_COLUMN] for file in files})
