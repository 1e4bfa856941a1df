"""The commands that look after a report, as a user calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from crackmodel.cli.main import app
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.shard_file import publish_shard, write_shard
from tests.reports.rows import build_rows, make_rejected, make_row


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Two surveys, one of them scored by two runs."""
    place = tmp_path / "report"
    table = ReportTable.open_or_create(place)
    tunnel = {"survey": "tunnel", "run_id": "run-2"}
    shards: list[list[dict[str, Any]]] = [
        [make_row("a.jpg", verdict="crack"), make_row("b.jpg", ood_score=2.0, ood_threshold=1.0)],
        [make_rejected("c.jpg")],
        [make_row("a.jpg", **tunnel), make_row("b.jpg", **tunnel)],
    ]
    for number, rows in enumerate(shards):
        survey, run_id = rows[0]["survey"], rows[0]["run_id"]
        file = write_shard(table.uri, survey, run_id, number, build_rows(rows))
        publish_shard(table.uri, file)
        table.commit([file], run_id=run_id)
    return place


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def answer(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_summary_counts_every_survey(report: Path) -> None:
    found = answer("summary", "--report", report)

    assert (found["report"], found["version"]) == (str(report), 3)
    bridge, tunnel = found["surveys"]
    assert {name: bridge[name] for name in ("survey", "images", "cracks", "clear", "rejected")} == {
        "survey": "bridge", "images": 3, "cracks": 1, "clear": 1, "rejected": 1,
    }  # fmt: skip
    assert (bridge["unfamiliar"], bridge["departed"], bridge["last_run"]) == (1, 0, "run-1")
    assert bridge["last_scored"].startswith("2026-05-04T13:00:00")
    assert (tunnel["clear"], tunnel["last_run"]) == (2, "run-2")
    assert re.search(r"bridge +3 +1 +1 +1 +1 +0 +run-1", run("summary", "--report", report).stdout)


def test_history_tells_who_added_what(report: Path) -> None:
    compact(ReportTable.open(report), "bridge")

    commits = answer("history", "--report", report)["commits"]

    assert [commit["version"] for commit in commits] == [6, 5, 4, 3, 2, 1, 0]
    told = [
        tuple(commit[name] for name in ("operation", "run", "survey", "files", "replaced", "rows"))
        for commit in commits
    ]
    assert told == [
        ("vacuum end", None, None, None, 0, 0),
        ("vacuum start", None, None, None, 0, 0),
        ("compact", None, "bridge", 1, 2, 0),
        ("score", "run-2", "tunnel", 1, 0, 2),
        ("score", "run-1", "bridge", 1, 0, 1),
        ("score", "run-1", "bridge", 1, 0, 2),
        ("create table", None, None, None, 0, 0),
    ]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", commits[0]["at"])
    assert len(answer("history", "--report", report, "--limit", "2")["commits"]) == 2
    assert re.search(r"compact +bridge +1 +2 +0", run("history", "--report", report).stdout)


def test_compact_puts_every_survey_together_or_one(report: Path) -> None:
    (done,) = answer("compact", "--report", report, "--survey", "bridge", "--keep-hours", "2")["surveys"]
    assert (done["survey"], done["files_before"], done["files_after"], done["deleted"]) == ("bridge", 2, 1, 0)

    lines = run("compact", "--report", report).stdout.splitlines()
    assert lines[0].startswith("bridge: 1 files")
    assert lines[0].endswith("2 replaced files deleted")
    assert lines[1].startswith("tunnel: 1 files")
    assert answer("check", "--report", report)["files"] == 2


def test_survey_that_is_being_scored_is_left_and_named(report: Path) -> None:
    with ReportTable.open(report).lock("bridge", "run-9"):
        done = run("compact", "--report", report)

    assert done.exit_code == 1
    assert done.stdout.startswith("tunnel:")
    assert "run-9" in done.stderr
    assert len(list(report.glob("survey=bridge/*"))) == 2


def test_check_tells_of_files_that_nobody_has_committed_yet(report: Path) -> None:
    file = write_shard(str(report), "bridge", "20261123T063950Z-b4b2c7", 0, build_rows([make_row("new.jpg")]))
    publish_shard(str(report), file)
    done, told = run("check", "--report", report), answer("check", "--report", report)

    assert (done.exit_code, told["uncommitted"], told["findings"]) == (0, 1, [])
    assert "  1 files are about to be committed, or a run died before it did" in done.stdout


@pytest.mark.parametrize(
    "options", [("--survey", "nowhere"), ("--keep-hours", "169"), ("--target-size", "0")], ids=" ".join
)
def test_compact_refuses_what_makes_no_sense(report: Path, options: tuple[str, str]) -> None:
    done = run("compact", "--report", report, *options)
    assert done.exit_code == 2
    assert options[0].removeprefix("--") in done.stderr.replace("_", "-")


def test_check_exits_with_0_where_all_is_well(report: Path) -> None:
    done = run("check", "--report", report)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "3 files, 5 rows" in done.stdout
    assert "nothing is wrong" in done.stdout


def test_check_names_every_fault_and_exits_with_1(report: Path) -> None:
    table = ReportTable.open(report)
    compact(table, "bridge", keep_hours=2)
    gone = next(report.glob("survey=tunnel/*"))
    gone.unlink()
    (report / "copy\x1b.parquet").write_bytes(b"")

    done = run("check", "--report", report)

    assert done.exit_code == 1
    assert f"missing: The log names survey=tunnel/{gone.name}" in done.stdout
    assert "orphan: copy\\x1b.parquet is not in the log" in done.stdout
    assert "2 replaced files are kept" in done.stdout
    assert "2 things are wrong" in done.stderr
    found = answer("check", "--report", report, code=1)
    assert [finding["kind"] for finding in found["findings"]] == ["missing", "orphan"]
    assert found["replaced"] == 2
