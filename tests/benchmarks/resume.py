"""What a crash costs: `python -m tests.benchmarks.resume`.

The same patches are scored by the command line twice: in one go, and killed with SIGKILL when half of them
are committed, then run again. Ray starts once more for the second half; no image that was committed is
scored again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deltalake import DeltaTable

PATCHES = 6_000
_DATA = Path(os.environ.get("CRACKMODEL_TEST_DATA", "../shared/data"))
_CRACKMODEL = Path(sys.executable).with_name("crackmodel")


def main() -> None:
    """Measure and print one Markdown table."""
    patches = sorted((_DATA / "metu" / "train").rglob("*.jpg"))[:PATCHES]
    if not patches:
        sys.exit(f"{_DATA} holds no METU.")
    with tempfile.TemporaryDirectory() as folder:
        survey = Path(folder) / "survey"
        survey.mkdir()
        for patch in patches:
            shutil.copy(patch, survey / f"{patch.parent.name}-{patch.name}")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        print("| what | seconds | rows committed |\n|---|---:|---:|", flush=True)
        whole = _score(survey, Path(folder) / "whole", lambda rows: False)
        killed = _score(survey, Path(folder) / "killed", lambda rows: 2 * rows >= len(patches))
        again = _score(survey, Path(folder) / "killed", lambda rows: False)
        for what, (seconds, rows) in {"in one go": whole, "killed": killed, "run again": again}.items():
            print(f"| {what} | {seconds:.1f} | {rows} |")
        print(f"| killed and run again, to in one go | {(killed[0] + again[0]) / whole[0]:.2f}x | |")


def _score(survey: Path, report: Path, enough: Callable[[int], bool]) -> tuple[float, int]:
    """Score until the report has enough rows, or to the end; return seconds and rows."""
    started = time.perf_counter()
    run = subprocess.Popen(
        [_CRACKMODEL, "score", survey, "--report", report],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"CRACKMODEL_SHARD_IMAGES": "250"},
    )
    while run.poll() is None:
        time.sleep(0.2)
        if (report / "_delta_log" / f"{1:020}.json").exists() and enough(DeltaTable(report).count()):
            run.send_signal(signal.SIGKILL)
            run.wait()
    return time.perf_counter() - started, DeltaTable(report).count()


if __name__ == "__main__":
    main()
