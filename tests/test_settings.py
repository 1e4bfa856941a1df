"""One frozen object: arguments, then the environment, then defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from crackmodel.errors import UsageError
from crackmodel.settings import ReportSettings, ScoreSettings, TrainSettings


def test_defaults_are_those_of_the_documentation() -> None:
    settings = ScoreSettings.read()

    assert (settings.report, settings.model, settings.engine) == ("report", "builtin", "litert")
    assert (settings.tile, settings.overlap, settings.workers) == (227, 0, None)


def test_an_argument_beats_the_environment_and_the_environment_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRACKMODEL_REPORT", "from-environment")
    monkeypatch.setenv("CRACKMODEL_TILE", "256")

    assert ScoreSettings.read().report == ReportSettings.read().report == "from-environment"
    assert ScoreSettings.read(report="given", tile=None).report == "given"
    assert ScoreSettings.read(report="given", tile=None).tile == 256


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"tile": 5}, "--tile"),
        ({"tile": 100, "overlap": 100}, "--overlap"),
        ({"overlap": -1}, "--overlap"),
        ({"workers": -1}, "--workers"),
        ({"limit": 0}, "--limit"),
        ({"engine": "onnx"}, "--engine"),
        ({"report": ""}, "--report"),
        ({"since": "20261101"}, "--since"),
        ({"since": "7"}, "--since"),
        ({"since": "999999w"}, "--since"),
        ({"gpus_per_task": 1.5}, "--gpus-per-task"),
        ({"gpus_per_task": float("inf")}, "--gpus-per-task"),
        ({"gpus_per_task": 1}, "--gpus-per-task"),
        ({"engine": "litert-int8", "gpus_per_task": 0.5}, "--gpus-per-task"),
        ({"engine": "tensorflow", "workers": 0, "gpus_per_task": 0.5}, "--gpus-per-task"),
        ({"image_seconds": float("inf")}, "--image-seconds"),
    ],
)
def test_a_senseless_value_is_named_with_its_option(given: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        ScoreSettings.read(**given)

    assert named in caught.value.remedy
    assert repr(next(reversed(given.values()))) in caught.value.problem


def test_gpus_that_nothing_would_use_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"the engine litert uses no GPU, .* take --engine tensorflow"):
        ScoreSettings.read(gpus_per_task=1)
    with pytest.raises(UsageError, match="with --workers 0 there are no tasks"):
        ScoreSettings.read(engine="tensorflow", workers=0, gpus_per_task=1)
    assert ScoreSettings.read(engine="tensorflow", gpus_per_task=1).gpus_per_task == 1
    assert ScoreSettings.read(workers=0, gpus_per_task=0).workers == 0


def test_a_senseless_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRACKMODEL_TILE", "wide")

    with pytest.raises(UsageError, match="CRACKMODEL_TILE"):
        ScoreSettings.read()


def test_settings_do_not_change_after_they_were_built() -> None:
    settings = TrainSettings.read(models=Path("registry"))
    assert settings.models == "registry"

    with pytest.raises(ValidationError):
        settings.models = "elsewhere"  # type: ignore[misc]


def test_since_is_a_date_of_this_place_or_an_age() -> None:
    now = datetime.now(UTC)
    assert ScoreSettings.read(since="2026-11-01").modified_since == datetime(2026, 11, 1).astimezone()
    evening = ScoreSettings.read(since="2026-11-01T18:00+02:00")
    assert evening.modified_since == datetime(2026, 11, 1, 16, tzinfo=UTC)
    assert ScoreSettings.read(since=evening.modified_since) == evening
    week = ScoreSettings.read(since="7d").modified_since
    assert week is not None
    assert timedelta(days=7) <= datetime.now(UTC) - week <= timedelta(days=7) + (datetime.now(UTC) - now)
    with pytest.raises(UsageError, match=r"written 2026-11-01 .* 36h, 7d or 2w.*--since"):
        ScoreSettings.read(since="yesterday")


def test_an_age_means_another_time_in_each_run_and_stays_the_same_setting() -> None:
    assert ScoreSettings.read(since="36h") == ScoreSettings.read(since="36h")
    assert ScoreSettings.read(since="36h").given() == {"since": "36h"}


def test_a_setting_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=r"there is no such setting.* tile, overlap"):
        ScoreSettings.read(tiel=227)


def test_one_class_or_several_mean_cracks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainSettings.read(positive="cracked").positive == ["cracked"]
    assert TrainSettings.read(positive=("cracked", "decks=riss")).positive == ["cracked", "decks=riss"]
    monkeypatch.setenv("CRACKMODEL_POSITIVE", '["cracked"]')
    assert TrainSettings.read().positive == ["cracked"]


@pytest.mark.parametrize("name", ["1", "true", "null"])
def test_a_class_may_be_called_like_a_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRACKMODEL_POSITIVE", name)
    assert TrainSettings.read().positive == [name]
