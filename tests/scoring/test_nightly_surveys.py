"""Which surveys a night scores, where photographs, report and models lie side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crackmodel import score_survey
from crackmodel.scoring.nightly import find_nightly_surveys
from crackmodel.settings import ScoreSettings
from crackmodel.surveys.sample import SampleSurvey


def test_a_folder_of_photographs_can_hold_the_report_and_the_models(
    tmp_path: Path, sample: SampleSurvey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bridge-07", "new", "models"):
        (tmp_path / name).mkdir()
    picture = tmp_path / "bridge-07" / "a.jpg"
    shutil.copy(sample.directory / sample.cracked[0], picture)
    (tmp_path / "models" / "walls" / "v1").mkdir(parents=True)
    (tmp_path / "models" / "walls" / "v1" / "card.json").touch()

    (first,) = find_nightly_surveys(".", ScoreSettings.read())
    score_survey(first.uri, workers=0)
    (second,) = find_nightly_surveys(".", ScoreSettings.read())
    assert first.name == second.name == "bridge-07"

    picture.unlink()
    (tmp_path / "new" / "b.jpg").touch()
    assert [entry.name for entry in find_nightly_surveys(".", ScoreSettings.read())] == ["bridge-07", "new"]
    assert [entry.name for entry in find_nightly_surveys(".", ScoreSettings.read(report="another"))] == [
        "new"
    ]
