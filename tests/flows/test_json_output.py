"""`--json` prints one object that says all, whatever else writes to stdout meanwhile."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from crackmodel.cli.main import app
from crackmodel.models.registry.registry import Registry
from crackmodel.scoring.nightly import NightlyRun, SurveyOutcome
from crackmodel.storage.location import Location
from crackmodel.surveys.discovery import RosterEntry


def test_a_night_as_json_says_what_became_of_each_survey(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import nightly

    deck = RosterEntry("deck", Location.parse("/photos/deck"), owner="North district")
    night = NightlyRun("/photos", (SurveyOutcome(deck, problem="It is not there."),))

    def noisy(root: str, **given: Any) -> SimpleNamespace:
        print("(raylet) a worker died")
        return SimpleNamespace(result=lambda raise_on_failure: night)

    monkeypatch.setattr(nightly, "nightly", noisy)
    nightly.main("/photos", as_json=True)

    printed, noise = capsys.readouterr()
    (survey,) = json.loads(printed)["outcomes"]
    assert survey["state"] == "failed"
    assert survey["reasons"] == ["failed: It is not there."]
    assert survey["headline"] == "deck: failed. It is not there."
    assert survey["entry"] == {"name": "deck", "uri": "/photos/deck", "tile": None, "owner": "North district"}
    assert "(raylet)" in noise


def test_a_training_prints_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(datasets: list[str], **given: Any) -> Any:
        print("(raylet) a worker died")
        return Registry("models").resolve("builtin")

    monkeypatch.setattr("crackmodel.models.training.train.train_model", noisy)
    done = CliRunner().invoke(app, ["train", "walls", "--json"])

    assert json.loads(done.stdout)["model"].startswith("builtin@")
    assert "(raylet)" in done.stderr
