from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crackmodel.errors import ReportBusy, ReportWriteFailed
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.lock import hold_survey

HOLD = """
import sys, time
from pathlib import Path
from crackmodel.reports.writing.lock import hold_survey
with hold_survey(Path(sys.argv[1]), "bridge", "run-9"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process_holds(report: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(report)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_busy_survey_names_process_machine_run_and_time(tmp_path: Path) -> None:
    with another_process_holds(tmp_path) as process:
        with pytest.raises(ReportBusy) as busy, hold_survey(tmp_path, "bridge"):
            pass
        assert f"run run-9, process {process.pid} on {socket.gethostname()}, since 20" in busy.value.problem
        assert "'bridge'" in busy.value.problem
        with hold_survey(tmp_path, "tunnel"):
            pass


def test_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with another_process_holds(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    with hold_survey(tmp_path, "bridge"):
        pass


def test_lock_ends_with_an_exception_and_can_be_taken_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold_survey(tmp_path, "bridge"):
        raise KeyError
    with hold_survey(tmp_path, "bridge"):
        pass


def test_busy_message_survives_an_unreadable_note(tmp_path: Path) -> None:
    with another_process_holds(tmp_path):
        (tmp_path / "_locks" / "bridge.lock").write_text("{")
        with pytest.raises(ReportBusy, match="by another run\\."), hold_survey(tmp_path, "bridge"):
            pass


def test_lock_that_cannot_be_made_is_a_write_failure(tmp_path: Path) -> None:
    (tmp_path / "_locks").write_text("in the way")
    with pytest.raises(ReportWriteFailed, match="_locks"), hold_survey(tmp_path, "bridge"):
        pass


def test_report_table_locks_a_survey(table: ReportTable) -> None:
    with (
        table.lock("bridge", "run-1"),
        pytest.raises(ReportBusy, match=f"run-1, process {os.getpid()}"),
        ReportTable.open(table.uri).lock("bridge"),
    ):
        pass
