"""How a command ends: what stops it becomes words on stderr and an exit code, for every face alike."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import typer
import typer.core

from crackmodel.cluster.jobs.log_protocol import record_error, recording
from crackmodel.errors import CrackmodelError
from crackmodel.storage.advice import first_line, remedy
from crackmodel.text import printable

FAILED: Final = 1

_OF_OUTPUTS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})
"""How writing to stdout fails, but other things too."""


@contextmanager
def reported() -> Iterator[None]:
    """Run a command so that it ends well, whatever happens.

    A `CrackmodelError` is two lines on stderr and its own exit code. Ctrl-C and SIGTERM stop the command
    in order: what is committed stays, Ray's work ends, and the message says how to go on. A reader
    that closes the pipe early, `head` say, is no failure.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
        if sys.stdout:  # none where it was closed
            sys.stdout.flush()
    except CrackmodelError as error:
        if recording():
            record_error(error, sys.stderr)
        else:
            _say(error.problem, error.remedy)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("The command was interrupted.", _how_to_go_on())
        sys.exit(FAILED)
    except TimeoutError as error:  # Prefect's, for a flow or a task with a limit; an OSError to Python
        _say(
            f"It took too long: {str(error) or 'a time limit passed'}.",
            _how_to_go_on(),
        )
        sys.exit(FAILED)
    except OSError as error:
        output_fails = error.errno in _OF_OUTPUTS and _output_fails()
        if output_fails and isinstance(error, BrokenPipeError):
            sys.exit(0)
        _say(*_in_words(error, output_fails))
        sys.exit(FAILED)


class ReportedCommand(typer.core.TyperCommand):
    """A command that ends as `reported` says."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        with reported():
            return super().invoke(ctx)


class ReportedGroup(typer.core.TyperGroup):
    """A group of commands that end as `reported` says."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        with reported():
            return super().invoke(ctx)


def run_command(command: Callable[..., Any]) -> None:
    """Run a function as the only command of this process, with the options of its signature."""
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.command(cls=ReportedCommand)(command)
    app()


def _say(problem: str, remedy: str) -> None:
    """Write two lines that no file name in them can turn into terminal commands."""
    print(f"error: {printable(problem)}\n       {printable(remedy)}", file=sys.stderr)


def _output_fails() -> bool:
    """Whether stdout cannot be written; then what is left for it goes nowhere."""
    try:
        print(flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _in_words(error: OSError, output_fails: bool) -> tuple[str, str]:
    """Say whether a named file failed, the output or a storage, and what to do about it."""
    if error.filename is not None:
        return (
            f"{error.filename} cannot be used: {error.strerror}.",
            "Check that it is there, and that this user may use it.",
        )
    if output_fails:
        return f"The output cannot be written: {error}.", "Write it somewhere else, or free some space."
    return (
        f"A disk or an object store has failed: {first_line(error)}.",
        remedy(error, "Check it and the network, and run the same command again; what is done is kept."),
    )


def _how_to_go_on() -> str:
    """Name the command that does the rest; not in a job, whose command is not the one that was typed."""
    advice = "What is done is kept; run the same command again for the rest"
    if recording():
        return f"{advice}."
    module = sys.orig_argv[1:2] == ["-m"]
    program = ["python", *sys.orig_argv[1:3]] if module else [Path(sys.argv[0]).name]
    return f"{advice}: {shlex.join([*program, *sys.argv[1:]])}"
