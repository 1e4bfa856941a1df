"""Command lines of this package for another machine."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and what it works on.

    Attributes:
        name: `score` or `train`.
        arguments: The command line after the name, without `--json`.
        subject: What only one job at a time may work on; metadata of the job.
    """

    name: str
    arguments: tuple[str, ...]
    subject: Mapping[str, str]

    @property
    def key(self) -> str:
        """The subject as 16 hexadecimal digits."""
        named = json.dumps([self.name, *sorted(self.subject.items())])
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def entrypoint(self, python: str) -> str:
        """Return the line that a job's shell runs.

        Args:
            python: The interpreter there; quoted, so that `~` and variables stay as they are.
        """
        return shlex.join([python, "-m", "crackmodel", self.name, "--json", *self.arguments])


def options(values: Mapping[str, object]) -> list[str]:
    """Return command-line options; None leaves one out, a list repeats it."""
    written = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            written.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            several = value if isinstance(value, list | tuple) else [value]
            written += [f"--{flag}={each}" for each in several]
    return written


def positional(values: Sequence[str]) -> list[str]:
    """Return arguments that are no options, whatever they begin with."""
    return ["--", *values]
