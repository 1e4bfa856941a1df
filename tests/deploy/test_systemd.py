"""The units as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_UNITS = sorted((_CHECKOUT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", _UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong_with_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    here = (
        unit.read_text()
        .replace("/opt/crackmodel/.venv", sys.prefix)
        .replace("/opt/crackmodel", str(tmp_path))
    )
    (tmp_path / unit.name).write_text(here)

    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / unit.name], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_there_is_a_unit_for_either_way() -> None:
    assert [unit.stem for unit in _UNITS] == ["crackmodel-nightly", "crackmodel-server", "crackmodel-worker"]
