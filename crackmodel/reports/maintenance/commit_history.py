"""The commits in a report's log, which covers at least a month."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from crackmodel.reports.table import ReportTable


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit to a report.

    Attributes:
        version: Its number; `DeltaTable(report, version=...)` shows the report as it was then.
        at: When, UTC.
        operation: `score`, `compact`, or Delta Lake's own name for it in small letters.
        run: The run that scored, else None.
        survey: The survey that it changed; None for all, or where the log does not say.
        files: Files that were added; None where the log does not say.
        replaced: Files that were replaced.
        rows: Rows that were added; None where the log does not say.
    """

    version: int
    at: datetime
    operation: str
    run: str | None
    survey: str | None
    files: int | None
    replaced: int
    rows: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, times as ISO 8601."""
        return asdict(self) | {"at": f"{self.at:%Y-%m-%dT%H:%M:%SZ}"}


def history(table: ReportTable, limit: int) -> list[Commit]:
    """Return the last commits, newest first; Delta Lake forgets them after a month, at the earliest."""
    table.refresh()
    with table.reading_log():
        return [_commit(entry) for entry in table.log.history(limit)]


def _commit(entry: dict[str, Any]) -> Commit:
    operation = str(entry.get("operation", "unknown")).lower()
    metrics = entry.get("operationMetrics") or {}
    replaced = entry.get("compacted", metrics.get("numFilesRemoved", 0))
    if "compacted" in entry:
        operation = "compact"
    elif "run_id" in entry:
        operation = "score"
    adds_rows = operation == "score"
    return Commit(
        version=int(entry["version"]),
        at=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
        operation=operation,
        run=entry.get("run_id"),
        survey=entry.get("survey"),
        files=entry.get("files", metrics.get("numFilesAdded")),
        replaced=int(replaced),
        rows=entry.get("rows") if adds_rows else None if operation == "write" else 0,
    )
