"""The events of a job, in addition to those of its command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job has started, or was taken over.

    Attributes:
        job: Its submission id, as `ray job logs` takes it.
        cluster: Address of the cluster's dashboard.
        resumed: It ran already: its submitter is gone, or waits for it as well.
    """

    job: str
    cluster: str
    resumed: bool = False

    @property
    def text(self) -> str:
        """The event as a sentence."""
        found = "runs already, as" if self.resumed else "runs as"
        return f"The work {found} job {self.job} on {self.cluster}"


@dataclass(frozen=True, slots=True)
class JobSaid:
    """New lines of a job's log for people, safe to show."""

    text: str


JobEvent = JobStarted | JobSaid
