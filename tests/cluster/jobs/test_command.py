"""Commands that mean on the cluster what they mean here."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from crackmodel.cli.main import app
from crackmodel.cluster.jobs.command import Command
from crackmodel.errors import UsageError
from crackmodel.models.training.train_job import training_command
from crackmodel.scoring.score_job import scoring_command
from crackmodel.settings import ScoreSettings, TrainSettings
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import Survey

_COMMANDS: Any = typer.main.get_command(app)


TRAINING = TrainSettings.read()


def parsed(entrypoint: str) -> dict[str, Any]:
    """Read a command line as `crackmodel` does."""
    python, module, package, name, *arguments = shlex.split(entrypoint)
    assert (python, module, package) == ("/opt/my python", "-m", "crackmodel")
    parameters: dict[str, Any] = _COMMANDS.commands[name].make_context(name, arguments).params
    return parameters


def test_every_setting_of_a_run_travels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ScoreSettings.read(
        report="my report", models="my models", model="walls@v2", engine="tensorflow", tile=256, overlap=16,
        workers=3, shard_images=7, shard_bytes=99, gpus_per_task=0.5, limit=10, retry_rejected=True,
        force=True, since="2026-11-01T10:00+01:00", mark_missing=True, max_rejected=0, max_image_bytes=1000,
        image_seconds=9.5, compact_after=0, keep_hours=3, max_image_pixels=5,
    )  # fmt: skip
    command = scoring_command(Survey.parse("-photos", "bridge"), chosen)
    options = parsed(command.entrypoint("/opt/my python"))

    assert options.pop("survey") == f"{tmp_path}/-photos"
    assert options.pop("name") == "bridge"
    assert options.pop("as_json") is True
    assert ScoreSettings.read(**options) == chosen.model_copy(
        update={"report": f"{tmp_path}/my report", "models": f"{tmp_path}/my models"}
    )
    assert chosen.given().keys() == ScoreSettings.model_fields.keys()
    assert ScoreSettings.read(**options).modified_since == datetime(2026, 11, 1, 9, tzinfo=UTC)


def test_the_age_of_files_is_the_same_in_every_call() -> None:
    """Or the next caller would not know the job of the last one."""
    first, second = (
        scoring_command(Survey.parse("/photos"), ScoreSettings.read(since="36h")) for _ in range(2)
    )

    assert "--since=36h" in first.arguments
    assert first == second


def test_a_flag_that_was_switched_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    command = scoring_command(Survey.parse("/photos"), ScoreSettings.read(force=False))
    monkeypatch.setenv("CRACKMODEL_FORCE", "1")  # of the head

    options = parsed(command.entrypoint("/opt/my python"))
    assert options["force"] is False


def test_a_default_travels_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    default = ScoreSettings.read()
    monkeypatch.setenv("CRACKMODEL_IMAGE_SECONDS", str(default.image_seconds))
    command = scoring_command(Survey.parse("/photos"), ScoreSettings.read(tile=default.tile))

    options = parsed(command.entrypoint("/opt/my python"))
    assert (options["tile"], options["image_seconds"]) == (default.tile, default.image_seconds)


def test_defaults_are_left_to_the_cluster_and_uris_stay() -> None:
    command = scoring_command(Survey.parse("s3://photos/deck"), ScoreSettings.read(report="s3://reports/all"))
    options = {name: value for name, value in parsed(command.entrypoint("/opt/my python")).items() if value}

    assert options.keys() == {"survey", "name", "report", "models", "as_json"}
    assert (options["survey"], options["report"]) == ("s3://photos/deck", "s3://reports/all")


def test_a_run_is_known_by_its_survey_and_report_and_a_training_by_everything() -> None:
    settings = ScoreSettings.read(report="/r")
    deck = scoring_command(Survey.parse("/photos/deck"), settings)

    assert (
        deck.key
        == scoring_command(
            Survey.parse("/elsewhere", "deck"), ScoreSettings.read(report="/r", force=True)
        ).key
    )
    assert deck.key != scoring_command(Survey.parse("/photos/deck"), ScoreSettings.read(report="/s")).key
    assert training_command(["/a"], {}, TRAINING).key == training_command("/a", {}, TRAINING).key
    assert training_command(["/a"], {}, TRAINING) != training_command(["/a"], {}, TrainSettings.read(seed=1))


def test_every_option_of_a_training_travels(tmp_path: Path) -> None:
    given = {
        "mode": "finetune", "split": "grouped", "group_by": "(.)/", "epochs": 3, "seed": 1,
        "positive": ["damaged", "b=cracked"], "train_workers": 2, "gpus_per_worker": 0, "target_recall": 0.95,
        "precision": "mixed", "promote": True, "like": "walls@v1", "models": "/m", "features": "/f",
        "workers": 4, "weights": "/w.h5", "batch_size": 8, "int8": False,
    }  # fmt: skip
    test = {"metu": tmp_path / "metu", "sdnet": tmp_path / "sdnet"}
    settings = TrainSettings.read(**given)
    command = training_command({"a": "/data/a", "b": "/data/b"}, test, settings, "walls")
    options = parsed(command.entrypoint("/opt/my python"))

    assert [str(each) for each in options.pop("datasets")] == ["/data/a", "/data/b"]
    assert [str(each) for each in options.pop("test")] == [str(place) for place in test.values()]
    assert settings.given().keys() | {"test"} == TrainSettings.model_fields.keys()
    assert options.pop("name") == "walls"
    assert options.pop("as_json") is True
    assert {name: str(value) for name, value in options.items()} == {
        name: str(value) for name, value in given.items()
    }


def test_names_that_no_option_can_give_are_refused() -> None:
    with pytest.raises(UsageError, match="names of their own: mine"):
        training_command({"mine": "/data/a"}, {}, TRAINING)


_KEYS = "s3://AKIAEXAMPLE:wJalrXUtnFEMI@photos/deck"


@pytest.mark.parametrize(
    "command",
    [
        lambda: scoring_command(Survey.parse(_KEYS), ScoreSettings.read()),
        lambda: scoring_command(Survey.parse("/photos"), ScoreSettings.read(report=_KEYS)),
        lambda: scoring_command(Survey.parse("/photos"), ScoreSettings.read(models=_KEYS)),
        lambda: training_command([_KEYS], {}, TRAINING),
        lambda: training_command(["/a"], {"deck": _KEYS}, TRAINING),
    ],
)
def test_keys_in_a_uri_are_refused_before_a_cluster_hears_of_them(command: Callable[[], Command]) -> None:
    with pytest.raises(UsageError, match="keys in it") as caught:
        command()
    assert "wJalrXUtnFEMI" not in str(caught.value)


def test_a_path_that_no_job_can_be_told_is_refused() -> None:
    with pytest.raises(UsageError, match=r"/bridge-\\udcff is not UTF-8"):
        scoring_command(Survey.parse("/bridge-\udcff"), ScoreSettings.read())
    assert Location.parse("file:///brücke").uri == "/brücke"
