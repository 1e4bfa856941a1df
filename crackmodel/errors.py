"""Everything that can stop a run, one tree.

    CrackmodelError
    ├── UsageError              an option or setting makes no sense
    ├── SurveyError             the photographs cannot be listed
    ├── DatasetError            the labelled images cannot train a model
    ├── WeightsNotFound         training has no ImageNet weights to start from
    ├── ModelError
    │   ├── ModelNotFound       no such name, version or alias
    │   ├── ModelCorrupt        a file's SHA-256 is not the one in its card
    │   └── ModelExportFailed   the exported model does not equal the Keras model
    ├── ReportError
    │   ├── ReportNotFound      nothing has been scored into it yet
    │   ├── ReportIncompatible  the path holds something that is not a report
    │   ├── ReportBusy          another run is scoring the same survey
    │   ├── ReportDamaged       files of it are lost or not what was written
    │   ├── ReportWriteFailed   the disk or the bucket did not take the rows
    │   └── QueryError          the SQL is wrong or not read-only
    ├── ClusterError            Ray cannot be reached or lost a shard for good
    ├── SchedulerError          no Prefect server answers or can be started
    ├── ReconciliationError     listed != scored + rejected + skipped
    ├── TooManyRejected         everything is done, but more images were rejected than allowed
    └── NightIncomplete         all other surveys are done, and some failed

    ImageRejected               one bad image; becomes a row, never ends a shard

Every `CrackmodelError` is made of two sentences: what is wrong and where, and what to do about it.
All of them cross process borders (Ray), so all of them survive pickling.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CrackmodelError(Exception):
    """A run cannot go on.

    Args:
        problem: What is wrong and where, one sentence with the offending path or value in it.
        remedy: What the reader should do next, one sentence; a command to type where there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"


class UsageError(CrackmodelError):
    """An option, argument or setting makes no sense."""

    exit_code = 2


class SurveyError(CrackmodelError):
    """The survey is missing, empty or cannot be listed."""


class DatasetError(CrackmodelError):
    """The labelled images cannot train a model."""


class WeightsNotFound(CrackmodelError):
    """Training found no ImageNet weights for the backbone."""


class ModelError(CrackmodelError):
    """A model cannot be used."""


class ModelNotFound(ModelError):
    """The registry has no such name, version or alias."""


class ModelCorrupt(ModelError):
    """A model file is missing or its SHA-256 differs from the card's."""


class ModelExportFailed(ModelError):
    """The exported model's probabilities differ from the Keras model's."""


class ReportError(CrackmodelError):
    """A report cannot be read or written."""


class ReportNotFound(ReportError):
    """There is no report at the given place."""


class ReportIncompatible(ReportError):
    """The place given for the report holds something else."""


class ReportBusy(ReportError):
    """Another run is scoring the same survey into the same report."""


class ReportDamaged(ReportError):
    """Files of the report are missing, altered or not in the log, or rows are there twice."""


class ReportWriteFailed(ReportError):
    """The storage did not take the rows; what was committed before is safe."""


class QueryError(ReportError):
    """The SQL does not parse, does not bind, or is not a single read-only statement."""


class ClusterError(CrackmodelError):
    """Ray cannot be reached, or gave a shard up."""


class SchedulerError(CrackmodelError):
    """The Prefect server that should start runs cannot be reached or started."""


class ReconciliationError(CrackmodelError):
    """The report does not hold one row for every listed image."""


class TooManyRejected(CrackmodelError):
    """The run is complete, and more images were rejected than `max_rejected` allows."""

    exit_code = 3


class NightIncomplete(CrackmodelError):
    """All surveys of a night are done that can be; some failed, or have more rejected images than allowed.

    Attributes:
        night: What became of every survey, a `crackmodel.scoring.nightly.NightlyRun`.
    """

    night: Any = None


class ImageRejected(Exception):
    """One image cannot be scored; the worker turns it into a `rejected` row.

    Args:
        code: Stable machine-readable reason, one of `crackmodel.reports.schema.REJECT_CODES`.
        stage: Where it happened: `fetch`, `identify`, `decode`, `tile` or `score`.
        detail: One line for a person.
    """

    def __init__(self, code: str, stage: str, detail: str) -> None:
        super().__init__(code, stage, detail)
        self.code = code
        self.stage = stage
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code} at {self.stage}: {self.detail}"
