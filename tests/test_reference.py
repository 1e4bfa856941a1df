"""One source of options: what stands in `settings.py` is wherever people meet options."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parent.parent

_FIELD = """    sharpness: int = _option(3, "How sharp a picture has to be", ge=1, le=9)
"""
_PLACES = """
import importlib, json, sys
import typer
from crackmodel.cluster.jobs.command import Command
from crackmodel.errors import UsageError
from crackmodel.scoring.score_job import scoring_command
from crackmodel.settings import ScoreSettings
from crackmodel.surveys.listing import Survey
flows = [importlib.import_module(f"flows.{name}") for name in ("score", "nightly", "serve")]
plan = flows[2].plan("0 2 * * *", "UTC", {"root": "/photos", "report": "/report"})
try:
    ScoreSettings.read(sharpness=10)
except UsageError as error:
    remedy = error.remedy
print(json.dumps({
    "environment": ScoreSettings.read().sharpness,
    "job": list(scoring_command(Survey.parse("/photos"), ScoreSettings.read()).arguments),
    "schemas": [
        flows[0].score.parameters.properties["sharpness"],
        flows[1].nightly.parameters.properties["sharpness"],
        plan._parameter_openapi_schema.properties["sharpness"],
    ],
    "remedy": remedy,
}))
"""


def test_the_page_of_options_is_what_the_commands_say() -> None:
    page = runpy.run_path(str(_CHECKOUT / "docs" / "make_reference.py"))

    written = page["PAGE"].read_text(encoding="utf-8")
    assert written == page["reference"](), "run: python docs/make_reference.py"


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the product in which somebody has added one field to the settings, and nothing else."""
    for folder in ("crackmodel", "flows", "docs"):
        ignored = shutil.ignore_patterns("pretrained", "__pycache__", "pictures")
        shutil.copytree(_CHECKOUT / folder, tmp_path / folder, ignore=ignored)
    (tmp_path / "crackmodel" / "pretrained").symlink_to(_CHECKOUT / "crackmodel" / "pretrained")
    settings = tmp_path / "crackmodel" / "settings.py"
    text = settings.read_text(encoding="utf-8")
    before = "    tile: TilePixels = _option("
    assert text.count(before) == 1
    settings.write_text(text.replace(before, _FIELD + before), encoding="utf-8")
    return tmp_path


def test_a_new_field_is_an_option_everywhere(changed: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=changed, capture_output=True, text=True, timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": str(changed), "CRACKMODEL_SHARPNESS": "5", "COLUMNS": "200",
                 "NO_COLOR": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    for module in (["crackmodel", "score"], ["flows.score"], ["flows.nightly"], ["flows.serve"]):
        shown = run("-m", *module, "--help")
        assert re.search(r"--sharpness .*\[1<=x<=9\].*How sharp a picture has to be", shown), shown

    found = json.loads(run("-c", _PLACES))
    assert found["environment"] == 5
    assert "--sharpness=5" in found["job"]
    for schema in found["schemas"]:
        assert schema["description"] == "How sharp a picture has to be. [default: 3]"
        assert schema["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert "--sharpness" in found["remedy"]

    run("docs/make_reference.py")
    page = (changed / "docs" / "reference.md").read_text(encoding="utf-8")
    row = "| `--sharpness` | How sharp a picture has to be. 1 to 9. | 3 | `CRACKMODEL_SHARPNESS` |"
    assert page.count(row) == 4


_OTHERS = {"--host", "--port", "--pool", "--from-file", "--recursive", "--no"}
"""Options of other programs, and the beginning of a switched-off flag."""


def test_no_message_names_an_option_that_does_not_exist() -> None:
    page = (_CHECKOUT / "docs" / "reference.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`(--[a-z0-9-]+)`", page)) | {"--help", "--version"} | _OTHERS
    named = {
        (option, str(file.relative_to(_CHECKOUT)))
        for folder in ("crackmodel", "flows")
        for file in (_CHECKOUT / folder).rglob("*.py")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", file.read_text(encoding="utf-8"))
    }

    assert len(named) > 50
    assert not [each for each in sorted(named) if each[0].rstrip("-") not in known]


def test_what_is_optional_is_given_by_name() -> None:
    """A new setting must not become what an argument by position meant before."""
    from flows.score import score

    with pytest.raises(TypeError, match="positional"):
        score.fn("/photos", "report")
