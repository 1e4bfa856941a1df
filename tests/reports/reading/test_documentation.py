"""`docs/report.md` and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from crackmodel.reports.reading.query import open_report
from crackmodel.reports.reading.views import VIEWS
from crackmodel.reports.schema import REJECT_CODES, REJECT_STAGES, REPORT_SCHEMA
from crackmodel.reports.table import ReportTable
from tests.reports.conftest import Commit
from tests.reports.rows import make_rejected, make_row

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "report.md").read_text()
COLUMN_ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for cells in (line.strip("|\n").split("|") for line in PAGE.splitlines() if line.count("|") == 6)
    if cells[0].strip().startswith("`")
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_column_is_documented_in_the_order_of_the_schema() -> None:
    assert list(COLUMN_ROWS) == REPORT_SCHEMA.names


@pytest.mark.parametrize("field", list(REPORT_SCHEMA), ids=lambda field: field.name)
def test_documented_type_unit_and_nullability_are_true(field: Any) -> None:
    kind, unit, required, meaning = COLUMN_ROWS[field.name]
    types = {"timestamp[us, tz=UTC]": "timestamp", "list<item: float>": "list of float32"}
    types |= {"float": "float32", "double": "float64"}
    assert kind == types.get(str(field.type), str(field.type))
    assert required == ("no" if field.nullable else "yes")
    assert unit
    assert meaning


def test_every_reject_code_and_stage_is_documented_with_its_meaning() -> None:
    section = PAGE.split("## Reject codes")[1].split("## Views")[0]
    meanings = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, flags=re.MULTILINE))
    assert meanings == REJECT_CODES | REJECT_STAGES


def test_every_view_is_documented_with_its_columns(table: ReportTable) -> None:
    section = PAGE.split("## Views")[1]
    documented = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", section, flags=re.MULTILINE))
    assert list(documented) == list(VIEWS)
    with open_report(table.uri) as report:
        for view, text in documented.items():
            columns = report.sql(f"SELECT * FROM {view}").column_names
            named = [name for name in re.findall(r"`(\w+)`", text) if name != "scored_at"]
            assert columns == (REPORT_SCHEMA.names if text == "all" else list(dict.fromkeys(named)))


@pytest.mark.parametrize("query", blocks("sql"), ids=lambda query: query.split("\n")[0][:40])
def test_every_sql_example_runs(table: ReportTable, commit: Commit, query: str) -> None:
    commit([make_row("a.jpg", verdict="crack"), make_rejected("b.jpg")])
    with open_report(table.uri) as report:
        report.sql(query)


@pytest.mark.parametrize("example", blocks("python"), ids=lambda text: text.split("\n")[0])
def test_every_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: Commit, example: str
) -> None:
    commit([make_row("a.jpg", verdict="crack")])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    assert len(names["rows"] if "rows" in names else names["cracks"]) == 1
