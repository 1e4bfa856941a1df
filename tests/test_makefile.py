"""What is typed behind `make score` reaches the flow as it was typed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


NAMES = ["a b", "a\"b'c", "a$HOME", "a`touch pwned`$(touch pwned)", "a;b&c", "a,b)#c"]


@pytest.mark.parametrize("name", NAMES)
def test_a_survey_of_any_name_is_scored(name: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "--silent", "-o", ".venv/.ready-to-score", "score", f"BIN={tmp_path}", f"SURVEY={name}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.splitlines() == ["-m", "flows.score", name, "--report", "report"]
    assert not (ROOT / "pwned").exists()
