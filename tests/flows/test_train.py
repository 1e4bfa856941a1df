"""Training from the command line and as a flow: a version in the registry that scores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crackmodel.models.registry.registry import Registry
from tests.prefect_server import PrefectServer

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def walls(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty real patches, half of them cracked, under names of a user's choice."""
    folder = tmp_path_factory.mktemp("data") / "walls"
    for mine, theirs in (("damaged", "Positive"), ("intact", "Negative")):
        (folder / mine).mkdir(parents=True)
        for patch in sorted((shared_data / "metu" / "train" / theirs).iterdir())[:40]:
            shutil.copy(patch, folder / mine)
    return folder


@pytest.fixture(scope="module")
def environment(shared_data: Path, prefect_server: PrefectServer) -> dict[str, str]:
    """Settings as an operator gives them."""
    (weights,) = (shared_data / "weights").glob("*.h5")
    return prefect_server.environment() | {"CRACKMODEL_WEIGHTS": str(weights)}


def test_a_trained_and_promoted_model_scores_by_its_name(
    walls: Path, environment: dict[str, str], sample_survey: Path, tmp_path: Path
) -> None:
    def crackmodel(*arguments: str | Path) -> str:
        program = Path(sys.executable).with_name("crackmodel")
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    trained = json.loads(
        crackmodel("train", walls, "--positive", "damaged", "--workers", "0", "--promote", "--json")
    )
    (listed,) = json.loads(crackmodel("models", "list", "--json"))["models"][1:]
    scored = json.loads(crackmodel("score", sample_survey, "--model", "walls", "--workers", "0", "--json"))

    assert trained["model"] == listed["model"] == scored["model"] == "walls@v1"
    assert listed["aliases"] == ["production"]
    assert trained["metrics"]["validation"]["accuracy"] > 0.8
    assert scored["scored"] > 0


def test_the_training_flow_registers_a_version(
    walls: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    renamed = shutil.copytree(walls, tmp_path / "cracked-walls")
    (renamed / "damaged").rename(renamed / "cracked")
    command = [sys.executable, "-m", "flows.train", renamed, "--models", models, "--workers", "0"]
    done = subprocess.run(
        command, cwd=_CHECKOUT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )

    assert done.returncode == 0, done.stderr
    version = Registry(models).resolve("cracked-walls@v1")
    assert version.card.training.mode == "frozen"
    assert f"# {version.reference}" in done.stdout


def test_a_data_set_with_one_class_fails_with_our_words(
    walls: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(walls / "intact", tmp_path / "half" / "intact")
    done = subprocess.run(
        [sys.executable, "-m", "flows.train", tmp_path / "half", "--models", tmp_path / "models"],
        cwd=_CHECKOUT, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "error: " in done.stderr
    assert not (tmp_path / "models").exists()
