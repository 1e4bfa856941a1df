"""How a commit slows down as the files of a report become more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from crackmodel.reports.reading.dataset import committed_rows
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import ShardFile
from tests.benchmarks.memory import usage

_RUN = "20260101T000000Z-abcdef"


def commits(totals: Sequence[int], folder: Path) -> Iterator[tuple[float, ...]]:
    """Commit files that do not exist, 16 at a time; tell what the last 20 before each total took."""
    table = ReportTable.open_or_create(folder / "report")
    table.begin("bridge", _RUN)
    done = 0
    for total in totals:
        taken: list[float] = []
        used: list[float] = []
        while done < total:
            files = [_made_up_file(done + more) for more in range(16)]
            started, cpu = time.perf_counter(), time.process_time()
            table.commit(files, run_id=_RUN)
            taken.append(time.perf_counter() - started)
            used.append(time.process_time() - cpu)
            done += 16
        started = time.perf_counter()
        committed_rows(ReportTable.open(folder / "report"), "bridge")
        opened = time.perf_counter() - started
        resident = usage()
        peak = resident.peak_mb if resident else 0.0
        yield done, 1000 * mean(taken[-20:]), 1000 * mean(used[-20:]), opened, peak


def _made_up_file(number: int) -> ShardFile:
    name = f"deck-{number:08}/IMG.JPG"
    constant = {
        "model": "builtin@v3",
        "model_sha256": "0" * 64,
        "preprocess": "cv2-linear-160/tile=227/overlap=0",
        "run_id": _RUN,
    }
    bounds = {"image": name} | constant
    stats = {
        "numRecords": 500,
        "minValues": bounds,
        "maxValues": bounds,
        "nullCount": dict.fromkeys(bounds, 0),
    }
    path = f"survey=bridge/part-{_RUN}-{number:06}-{number:08x}-{number:016x}.parquet"
    return ShardFile(path, 50_000, 500, {"survey": "bridge"}, json.dumps(stats))
