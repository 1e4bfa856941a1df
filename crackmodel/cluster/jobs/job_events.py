"""What a command that runs as a job on a cluster tells, beside what it would tell here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job does the work from now on.

    Attributes:
        job: Its submission id, as `ray job logs` takes it.
        cluster: Address of the cluster's dashboard.
        resumed: It was there already, left by a run that is gone or is still waiting for it.
    """

    job: str
    cluster: str
    resumed: bool = False

    @property
    def text(self) -> str:
        """Say where the work is done."""
        found = "is being done already, by" if self.resumed else "is done by"
        return f"The work {found} job {self.job} on {self.cluster}"


@dataclass(frozen=True, slots=True)
class JobSaid:
    """What a job has written to its log meanwhile: one or more lines for people, safe to show."""

    text: str


JobEvent = JobStarted | JobSaid
