"""A night over several surveys: find them, compare results, announce changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from crackmodel.errors import NightIncomplete, ReportDamaged, ReportError
from crackmodel.reports.reading.changes import Changes, compare_unannounced
from crackmodel.reports.reading.run_statistics import rows_by_run
from crackmodel.reports.survey_notes import knows_survey, mark_announced, read_announced
from crackmodel.reports.table import ReportTable
from crackmodel.scoring.own_folders import own_folders
from crackmodel.scoring.result import RunResult
from crackmodel.settings import ScoreSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.discovery import RosterEntry, find_surveys

_MANY_REJECTED = 0.1
_MANY_UNFAMILIAR = 0.1
_FEW_IMAGES = 10


def find_nightly_surveys(root: str, settings: ScoreSettings) -> tuple[RosterEntry, ...]:
    """Find the surveys below a root.

    The report, the models and empty folders are none; an empty folder that the report knows stays one, so
    that the night says what is wrong with it.

    Args:
        root: Folder or URI that holds the surveys' folders, or a `surveys.toml`.
        settings: Name the report and the models.

    Raises:
        SurveyError: There is no such root, it cannot be read, or no survey is in it.
        UsageError: An address, a setting or the roster makes no sense.
        ReportError: The report's storage cannot be reached.
    """
    return find_surveys(
        Location.parse(root),
        apart=own_folders(settings),
        is_known=partial(knows_survey, settings.report),
    )


@dataclass(frozen=True, slots=True)
class SurveyOutcome:
    """The outcome of one survey.

    Attributes:
        entry: The survey.
        result: Its run; None if it failed.
        changes: What is new in this run, and in runs before it that were not announced; None if it failed.
        problem: Why it failed, and what to do; empty if it did not.
        presumed: Runs that count as announced because the note of those that were is damaged.
    """

    entry: RosterEntry
    result: RunResult | None = None
    changes: Changes | None = None
    problem: str = ""
    presumed: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """`failed`, `too many rejected` or `done`."""
        if self.result is None:
            return "failed"
        return "too many rejected" if self.result.too_many_rejected else "done"

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        if self.result is None or self.changes is None:
            return f"{self.entry.name}: failed. {self.problem}"
        line = (
            f"{self.entry.name}: {self.result.scored:,} scored, {self.changes.new_cracks:,} new with cracks, "
            f"{self.result.rejected_text}, {self.result.skipped:,} known before"
        )
        return f"{line} ({self.catching_up})" if self.catching_up else line

    @property
    def catching_up(self) -> str:
        """Earlier runs that are announced with this one; may be empty."""
        if self.result is None or self.changes is None:
            return ""
        others = len(self.changes.runs.keys() - {self.result.run_id})
        return (
            f"with {others:,} earlier {'run' if others == 1 else 'runs'} not announced yet" if others else ""
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        shown = ("problem", "presumed", "state", "headline", "reasons")
        return {
            "entry": {name: getattr(self.entry, name) for name in ("name", "uri", "tile", "owner")},
            "result": self.result and self.result.as_dict(),
            "changes": self.changes and asdict(self.changes),
        } | {name: getattr(self, name) for name in shown}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the survey needs attention; none where all is well."""
        return tuple(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.result is None or self.changes is None:
            yield f"failed: {self.problem}"
            return
        if self.presumed:
            yield (
                f"the note of what was announced is damaged: {len(self.presumed):,} earlier runs count as "
                "announced, and what they found may not have been"
            )
        if self.changes.new_cracks:
            yield f"{self.changes.new_cracks:,} images with new cracks"
        if self.changes.risen:
            yield f"{self.changes.risen:,} images whose probability rose"
        if self.result.too_many_rejected:
            yield f"{self.result.rejected_text}, more than allowed"
        elif self.changes.rows >= _FEW_IMAGES and self.changes.rejected_share >= _MANY_REJECTED:
            yield f"{self.changes.rejected_share:.0%} of the new images rejected"
        if self.changes.rows >= _FEW_IMAGES and self.changes.unfamiliar_share >= _MANY_UNFAMILIAR:
            yield f"{self.changes.unfamiliar_share:.0%} of the new images unlike the training images"
        if self.changes.drifted:
            yield f"probabilities distributed unlike before (stability index {self.changes.drift:.2f})"


@dataclass(frozen=True, slots=True)
class NightlyRun:
    """A night over all surveys of a root.

    Attributes:
        root: Where they are.
        outcomes: One for each survey, in the roster's order.
    """

    root: str
    outcomes: tuple[SurveyOutcome, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {"root": self.root, "outcomes": [outcome.as_dict() for outcome in self.outcomes]}

    def check(self) -> None:
        """Raise an error if surveys need to be run again.

        Raises:
            NightIncomplete: Surveys failed, or have more rejected images than allowed.
        """
        bad = [outcome for outcome in self.outcomes if outcome.state != "done"]
        if bad:
            names = ", ".join(f"{outcome.entry.name} ({outcome.state})" for outcome in bad)
            error = NightIncomplete(
                f"{len(bad)} of {len(self.outcomes)} surveys are not as they should be: {names}.",
                "All others are done. See why in the summary, and run the same command again; what is "
                "scored is not scored again.",
            )
            error.night = self
            raise error


def compare_outcome(entry: RosterEntry, result: RunResult, *, rise: float) -> SurveyOutcome:
    """Compare a run with what was announced before.

    Earlier runs that were not announced count with it.

    Without a note of what was announced, everything before this run counts as announced. Where the note is
    damaged, too, and the outcome says so.

    Args:
        entry: The survey.
        result: Its run.
        rise: By how much a probability has to rise to be announced.

    Raises:
        ReportError: The report cannot be read, or the note not be made.
    """
    table = ReportTable.open(result.report)
    presumed: dict[str, int] = {}
    try:
        announced = read_announced(table.place, result.survey)
    except ReportDamaged:
        announced = presumed = _earlier_runs(table, result)
    if announced is None:
        announced = _earlier_runs(table, result)
        mark_announced(table.place, result.survey, {}, announced)
    changes = compare_unannounced(table, result.survey, announced, step=rise)
    return SurveyOutcome(entry, result, changes, presumed=presumed)


def _earlier_runs(table: ReportTable, result: RunResult) -> dict[str, int]:
    runs = rows_by_run(table, result.survey)
    runs.pop(result.run_id, None)
    return runs


def mark_night_announced(night: NightlyRun) -> None:
    """Note in the reports what a night has announced.

    Surveys that failed are left out, and so the next night announces what was committed of them.

    Raises:
        ReportError: A note cannot be made; all others are.
    """
    failures: list[ReportError] = []
    for outcome in night.outcomes:
        if outcome.result is None or outcome.changes is None:
            continue
        runs = outcome.changes.runs
        try:
            if runs or outcome.presumed:
                report = ReportTable.open(outcome.result.report)
                mark_announced(report.place, outcome.result.survey, runs, outcome.presumed)
        except ReportError as error:
            failures.append(error)
    if failures:
        raise failures[0]
