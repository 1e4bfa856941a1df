"""What a report holds, asked of its newest committed state: what is left to score, what a run has scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from crackmodel.errors import ReportBusy, ReportWriteFailed
from crackmodel.reports.maintenance.commit_history import Commit, history
from crackmodel.reports.maintenance.integrity import Check, check
from crackmodel.reports.reading import incremental, run_statistics
from crackmodel.reports.reading.dataset import committed_files, committed_rows, newest_run
from crackmodel.reports.reading.run_statistics import RunCounts, TopImage, UnfamiliarImage
from crackmodel.reports.writing.fencing import Fence
from crackmodel.storage.location import Place, first_line, remedy


class CommittedRows:
    """The reading side of a `ReportTable`.

    Attributes:
        uri: Absolute local path or object store URI of the report.
    """

    def __init__(self, place: Place, table: DeltaTable) -> None:
        self.uri = place.uri
        self._place = place
        self._table = table
        self._fence = Fence(table, place)
        self._committed: set[str] = set()

    @property
    def version(self) -> int:
        """Number of the newest commit that this object knows of."""
        return int(self._table.version())

    def dataset(self, survey: str | None = None) -> ds.Dataset:
        """The committed rows as this object knows them, with `REPORT_SCHEMA`; nothing is read yet.

        Args:
            survey: Leave out the files of all other surveys.
        """
        return committed_rows(self._table, self._place, survey)

    def newest_run(self, survey: str) -> str | None:
        """Name of the last run that has rows of a survey; None if there is none."""
        self.refresh()
        return newest_run(self._table, survey)

    def begin(self, survey: str, run_id: str) -> None:
        """Begin a run: from here on `commit` stops when another run has committed to the survey.

        Raises:
            ReportBusy: Another run has committed to it since this one was named.
        """
        newest = self.newest_run(survey)
        if newest is not None and newest >= run_id:
            raise ReportBusy(
                f"Survey {survey!r} was scored into {self.uri} by run {newest} while this one began.",
                "Run again: what is scored by then is skipped.",
            )
        self._fence.remember(survey)

    def pending(
        self,
        listing: pa.Table,
        *,
        survey: str,
        model: str,
        model_sha256: str,
        preprocess: str,
        retry_rejected: bool = False,
        force: bool = False,
    ) -> pa.Table:
        """What of a listing this model has to score; other models, versions and tile sizes do not count.

        A file is done when the newest row of its image is of the same size and time, and is no rejection
        for one of `TRANSIENT_REJECT_CODES`. A row which says that the image is gone counts whatever its model
        is.

        Args:
            listing: `image` string or large_string, `bytes` int64, `modified_at` timestamp[us, UTC], and any
                others.
            survey: Name of the survey that was listed.
            model: The version that is going to score, `name@version`.
            model_sha256: Its file.
            preprocess: Fingerprint of its preprocessing.
            retry_rejected: Count all rejected images as not scored.
            force: Count all images as not scored.

        Returns:
            The same columns, the files to score, sorted by `image`.

        Raises:
            ReportError: A committed file cannot be read.
        """
        self.refresh()
        if force:
            return listing.sort_by("image")
        with run_statistics.reading(self.uri):
            return incremental.pending(
                listing,
                self.dataset(survey),
                model=model,
                model_sha256=model_sha256,
                preprocess=preprocess,
                retry_rejected=retry_rejected,
            )

    def missing(
        self,
        listing: pa.Table,
        *,
        survey: str,
        model: str,
        model_sha256: str,
        preprocess: str,
        run_id: str | None = None,
    ) -> int:
        """Count the listed files without any row of this model, neither scored nor rejected for any reason.

        Unlike `pending` it does not ask whether a row still counts: right after a run this is what the run
        lost or postponed.

        Args:
            listing: As in `pending`.
            survey: Name of the survey that was listed.
            model: The version that has scored, `name@version`.
            model_sha256: Its file.
            preprocess: Fingerprint of its preprocessing.
            run_id: Only rows of this run count; the files of all others are not opened.

        Raises:
            ReportError: A committed file cannot be read.
        """
        with self._newest(survey) as rows:
            return incremental.missing(
                listing,
                rows,
                model=model,
                model_sha256=model_sha256,
                preprocess=preprocess,
                run_id=run_id,
            )

    def gone(self, listing: pa.Table, *, survey: str) -> pa.Table:
        """The survey's images that a listing lacks, whatever model scored them.

        Args:
            listing: As in `pending`.
            survey: Name of the survey that was listed.

        Returns:
            `image`, `bytes` and `modified_at` of its newest row, and `now`: a listed image of the same
            content, null where there is none. Images whose newest row says that they are gone are left out.

        Raises:
            ReportError: A committed file cannot be read.
        """
        with self._newest(survey) as rows:
            return incremental.gone(listing, rows)

    def count(self, run_id: str, survey: str | None = None) -> RunCounts:
        """Count the rows that a run committed, by verdict and by reject code.

        Args:
            run_id: Name of the run.
            survey: The run's survey, where it is known: the files of all others are not looked at.

        Raises:
            ReportError: A committed file cannot be read.
        """
        with self._newest(survey) as rows:
            return run_statistics.count(rows, run_id)

    def top(self, run_id: str, n: int = 10, survey: str | None = None) -> tuple[TopImage, ...]:
        """The `n` images of a run with the highest crack probability, rejected ones left out.

        Highest probability first; of equals the one with more cracked tiles.

        Args:
            run_id: Name of the run.
            n: How many at most.
            survey: The run's survey, where it is known: the files of all others are not looked at.

        Raises:
            ReportError: A committed file cannot be read.
        """
        with self._newest(survey) as rows:
            return run_statistics.top(rows, run_id, n)

    def unfamiliar(self, run_id: str, n: int = 10, survey: str | None = None) -> tuple[UnfamiliarImage, ...]:
        """The `n` images of a run that look least like the model's training images, if they are flagged.

        Highest `ood_score` first.

        Args:
            run_id: Name of the run.
            n: How many at most.
            survey: The run's survey, where it is known: the files of all others are not looked at.

        Raises:
            ReportError: A committed file cannot be read.
        """
        with self._newest(survey) as rows:
            return run_statistics.unfamiliar(rows, run_id, n)

    def surveys(self) -> list[str]:
        """Names of the surveys that have rows, sorted."""
        self.refresh()
        return sorted({file.survey for file in committed_files(self._table)})

    def history(self, limit: int) -> list[Commit]:
        """The last commits, newest first; Delta Lake forgets them after a month, at the earliest.

        Args:
            limit: How many at most.
        """
        self.refresh()
        with self._reading_log():
            return history(self._table, limit)

    def check(self) -> Check:
        """Read every file from end to end, and compare all with the log.

        Rows that a run has twice, files that are missing, altered, or of another schema or number of rows
        than the log says, and files that nobody committed. Files of a run that may be going on are no fault.

        Raises:
            ReportError: The report's folder cannot be listed, or its log not be read.
        """
        with run_statistics.reading(self.uri), self._reading_log():
            return check(self._table, self._place)

    def refresh(self) -> None:
        """Take notice of what others have committed meanwhile.

        Raises:
            ReportWriteFailed: The log cannot be read any more.
        """
        with self._reading_log():
            self._table.update_incremental()

    @contextmanager
    def _newest(self, survey: str | None) -> Iterator[ds.Dataset]:
        """The rows as they are now; what goes wrong while they are read names the report."""
        self.refresh()
        with run_statistics.reading(self.uri):
            yield self.dataset(survey)

    @contextmanager
    def _reading_log(self) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError) as error:
            raise ReportWriteFailed(
                f"The log of the report at {self.uri} cannot be read any more: {first_line(error)}.",
                remedy(error, "Check the storage and run again; what was committed stays."),
            ) from error
