from __future__ import annotations

from datetime import timedelta

import pytest

from crackmodel.errors import ReportBusy
from crackmodel.reports.maintenance.compaction import compact
from crackmodel.reports.reading.dataset import newest_run
from crackmodel.reports.run_names import name_run, run_time
from crackmodel.reports.table import ReportTable
from tests.reports.conftest import Commit
from tests.reports.rows import NOON, make_row

SECOND = timedelta(seconds=1)


def test_a_run_is_named_by_its_time() -> None:
    name = name_run(None, NOON)
    assert name.startswith("20260504T120000Z-")
    assert run_time(name) == NOON.replace(microsecond=0)
    assert name_run(None, NOON) != name


@pytest.mark.parametrize("clock", [NOON, NOON + SECOND, NOON - timedelta(days=999)], ids=str)
def test_names_follow_each_other_whatever_the_clock_says(clock: object) -> None:
    names = [name_run(None, NOON)]
    for _ in range(20):
        names.append(name_run(names[-1], clock))  # type: ignore[arg-type]
    assert names == sorted(names)
    assert len({run_time(name) for name in names}) == 21


def test_a_name_of_others_has_no_time() -> None:
    with pytest.raises(ValueError, match="run-1"):
        run_time("run-1")


def test_newest_run_is_known_without_reading_and_after_a_compaction(
    table: ReportTable, commit: Commit
) -> None:
    first = name_run(None, NOON)
    names = [name_run(first, NOON), first]
    assert newest_run(table, "bridge") is None
    for name in names:
        commit([make_row("a.jpg", run_id=name)])
    commit([make_row("a.jpg", survey="tunnel", run_id=name_run(names[0], NOON))])
    assert newest_run(table, "bridge") == names[0]
    compact(table, "bridge")
    assert newest_run(ReportTable.open(table.uri), "bridge") == names[0]


def test_run_that_another_has_passed_by_does_not_begin(table: ReportTable, commit: Commit) -> None:
    mine, theirs = name_run(None, NOON), name_run(None, NOON + SECOND)
    table.begin("bridge", mine)
    commit([make_row("a.jpg", run_id=theirs)])
    with pytest.raises(ReportBusy, match=theirs):
        table.begin("bridge", mine)
    table.begin("bridge", name_run(theirs, NOON))


def test_runs_of_one_second_have_no_order_so_the_later_does_not_begin(
    table: ReportTable, commit: Commit
) -> None:
    theirs, mine = sorted(name_run(None, NOON) for _ in range(2))
    commit([make_row("a.jpg", run_id=theirs)])
    with pytest.raises(ReportBusy, match=theirs):
        table.begin("bridge", mine)


@pytest.mark.parametrize("name", ["20260231T000000Z-aaaaaa", "99991231T235959Z-aaaaaa"])
def test_a_name_that_none_can_follow_stops_no_run(table: ReportTable, commit: Commit, name: str) -> None:
    commit([make_row("a.jpg", run_id=name)])

    assert newest_run(table, "bridge") is None
