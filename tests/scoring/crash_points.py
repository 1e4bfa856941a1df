"""A run that is killed at its n-th storage operation, for every n: `python -m tests.scoring.crash_points`.

A storage operation is whatever changes the report: a folder or file that is made, a piece of a file that is
written, a rename, a deletion, a flush, a commit to Delta's log, a vacuum. The run dies right before one or
right after it, and of a piece only half is written. For each a JSON line says what a rerun makes of the
report: `step` that killed, rows that were committed when it did, what the rerun skipped and scored, and
the images of the plain Parquet files and the hidden files afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.reports.compatibility import is_vacant
from crackmodel.reports.report_location import locate_report
from crackmodel.scoring.run import score_survey
from crackmodel.storage.location import Location


class Steps:
    """Counts storage operations, names them, and kills the process at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.names: list[str] = []
        self._fatal = fatal

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) - 1 == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*given: Any, **options: Any) -> Any:
            self(f"before {name}")
            done = change(*given, **options)
            self(f"after {name}")
            return done

        return stepped


class Sink:
    """A file that may end in the middle of a write."""

    closed = False

    def __init__(self, stream: pa.NativeFile, steps: Steps) -> None:
        self._stream, self._steps, self._pieces = stream, steps, 0

    def write(self, data: Any) -> int:
        content = bytes(data)
        half = len(content) // 2
        self._stream.write(content[:half])
        self._stream.flush()
        self._pieces += 1
        if self._pieces.bit_count() == 1:  # Parquet comes in hundreds of pieces: the 1st, 2nd, 4th, 8th, ...
            self._steps(f"in piece {self._pieces} of a file")
        self._stream.write(content[half:])
        return len(content)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        if not self.closed:
            self._steps("before close")
            self._stream.close()
            self.closed = True


class SteppedStorage(fs.FileSystemHandler):
    """A local disk whose changes are counted; everything else goes straight to it."""

    def __init__(self, steps: Steps) -> None:
        self._disk, self._steps = fs.LocalFileSystem(), steps

    def get_type_name(self) -> str:
        return "stepped"

    def normalize_path(self, path: str) -> str:
        return self._disk.normalize_path(path)

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return self._disk.get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        return self._disk.get_file_info(selector)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self._disk.open_input_stream(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._disk.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        self._steps("before open_output_stream")
        return pa.PythonFile(Sink(self._disk.open_output_stream(path), self._steps), "w")

    def create_dir(self, path: str, recursive: bool) -> None:
        self._steps.around("create_dir", self._disk.create_dir)(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self._steps.around("delete_file", self._disk.delete_file)(path)

    def move(self, source: str, target: str) -> None:
        self._steps.around("move", self._disk.move)(source, target)

    def _never(self, *given: Any) -> None:
        raise AssertionError("a storage operation that nobody counts")

    delete_dir = delete_dir_contents = delete_root_dir_contents = copy_file = open_append_stream = _never


def score_in_steps(survey: Path, report: Path, fatal: int | None) -> list[str]:
    """Score with every storage operation counted; die at the fatal one, else return the steps' names."""
    steps = Steps(fatal)
    opened = Location._opened.func
    stepped = fs.PyFileSystem(SteppedStorage(steps))
    Location._opened = property(lambda self: replace(opened(self), filesystem=stepped))
    for change in ("create", "create_write_transaction", "vacuum"):
        setattr(DeltaTable, change, steps.around(change, getattr(DeltaTable, change)))
    os.fsync = steps.around("fsync", os.fsync)
    os.replace = steps.around("replace", os.replace)
    score(survey, report)
    return steps.names


def score(survey: Path, report: Path) -> dict[str, int]:
    result = score_survey(survey, report=report, workers=0, shard_images=2, compact_after=2)
    return {"skipped": result.skipped, "scored": result.scored}


def after_the_crash(survey: Path, report: Path) -> dict[str, Any]:
    """Say what was committed, run again, and say what is there then."""
    before = 0 if is_vacant(locate_report(report)) else len(DeltaTable(report).to_pyarrow_table())
    rerun = score(survey, report)
    images = sorted(pd.read_parquet(report)["image"])
    left = sorted(path.name for path in report.glob("survey=*/.*"))
    return {"committed": before, **rerun, "images": images, "left": left}


def in_a_process(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run something in a fork of this process, which has imported everything and started nothing."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, json.dumps(work()).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(said) if said else None


def main(survey: Path) -> None:
    """Print a line for every crash."""
    with tempfile.TemporaryDirectory() as folder:
        _, names = in_a_process(lambda: score_in_steps(survey, Path(folder) / "whole", None))
        for fatal, name in enumerate(names):
            report = Path(folder) / f"report-{fatal}"
            code, _ = in_a_process(lambda: score_in_steps(survey, report, fatal))  # noqa: B023
            _, found = in_a_process(lambda: after_the_crash(survey, report))  # noqa: B023
            print(json.dumps({"step": name, "code": code, **(found or {})}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
