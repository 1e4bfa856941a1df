"""`evaluate` and `models compare`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from crackmodel.cli.main import app
from tests.models.drawings import draw_clear, draw_crack


@pytest.fixture(scope="module")
def slabs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn cracks, six drawn patches without, and a broken file."""
    rng = np.random.default_rng(8)
    root = tmp_path_factory.mktemp("evaluating") / "slabs"
    for folder, draw in (("cracked", draw_crack), ("plain", draw_clear)):
        (root / folder).mkdir(parents=True)
        for number in range(6):
            cv2.imwrite(str(root / folder / f"{number}.png"), draw(rng))
    (root / "plain" / "broken.png").write_bytes(b"nothing")
    return root


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_evaluate_prints_metrics_with_intervals_and_where_the_page_is(slabs: Path, tmp_path: Path) -> None:
    done = _run("evaluate", "builtin", slabs, "--out", tmp_path / "out")

    assert done.exit_code == 0, done.output
    assert "slabs: 12 images, 6 with cracks" in done.output
    assert "1 files left out, first plain/broken.png" in done.output
    assert " to " in next(line for line in done.output.splitlines() if "accuracy" in line)
    assert done.output.splitlines()[-1] == f"Page:   {tmp_path / 'out' / 'index.html'}"


def test_evaluate_prints_one_object_for_scripts(slabs: Path, tmp_path: Path) -> None:
    done = _run("evaluate", "builtin", slabs, "--positive", "plain", "--out", tmp_path / "out", "--json")

    found = json.loads(done.stdout)
    assert found["sets"]["slabs"]["images"] == 12
    assert found["sets"]["slabs"]["accuracy"] < 0.5
    assert Path(found["page"]).is_file()


def test_compare_puts_two_cards_side_by_side(tmp_path: Path) -> None:
    table = _run("models", "compare", "builtin", "builtin", "--models", tmp_path)
    found = json.loads(_run("models", "compare", "builtin", "builtin", "--json").stdout)

    assert table.exit_code == 0, table.output
    assert "AUROC" in table.output
    assert found["shared"] == list(found["sets"])
    assert not found["second_is_worse"]
