"""The command line: exit codes, one JSON object, errors that say what to do, fast paths that stay fast."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from crackmodel.cli.main import app

_COMMANDS = typer.main.get_command(app)


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `crackmodel` as a user does."""
    return subprocess.run(
        [Path(sys.executable).with_name("crackmodel"), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored(sample_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the drawn survey has been scored into `report`."""
    folder = tmp_path_factory.mktemp("scored")
    done = run("score", sample_survey, "--workers", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_score_ends_with_counts_the_report_and_the_next_command(sample_survey: Path, tmp_path: Path) -> None:
    done = run("score", sample_survey, "--workers", "0", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    counts = re.search(r"(\d+) listed = (\d+) scored \+ (\d+) rejected .*\+ (\d+) skipped", done.stdout)
    assert counts
    listed, *parts = map(int, counts.groups())
    assert listed == sum(parts)
    assert f"Report: {tmp_path / 'report'}" in done.stdout
    commands = re.findall(
        r'^(?:Next:)? +(\S*crackmodel) (query ".+" --report .+)$', done.stdout, re.MULTILINE
    )
    assert len(commands) == 2  # the tiles with cracks, and what was rejected
    for program, arguments in commands:
        assert program == "crackmodel" or (tmp_path / program).exists()
        following = run(*shlex.split(arguments), cwd=tmp_path)
        assert following.returncode == 0, following.stderr


def test_json_is_one_object_on_stdout_and_nothing_else(sample_survey: Path, scored: Path) -> None:
    done = run("score", sample_survey, "--workers", "0", "--json", cwd=scored)

    result = json.loads(done.stdout)
    assert result["listed"] == result["skipped"] > 0
    assert result["scored"] == 0


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_query_prints_rows(scored: Path, output: str) -> None:
    done = run("query", "select verdict, count(*) n from latest group by 1", "--format", output, cwd=scored)

    assert done.returncode == 0, done.stderr
    assert "crack" in done.stdout


def test_query_that_writes_is_refused_with_1(scored: Path) -> None:
    done = run("query", "copy report to 'stolen.csv'", cwd=scored)

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert not (scored / "stolen.csv").exists()


def test_missing_survey_exits_with_1_and_says_what_to_do(tmp_path: Path) -> None:
    done = run("score", "nowhere", "--workers", "0", cwd=tmp_path)

    assert done.returncode == 1
    problem, remedy = done.stderr.strip().splitlines()
    assert problem.startswith("error: ")
    assert "nowhere" in problem
    assert remedy.strip()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [("score",), ("score", "x", "--tile", "3"), ("score", "x", "--engine", "onnx"), ("nonsense",)],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run(*arguments, cwd=tmp_path).returncode == 2


def test_more_rejected_images_than_allowed_exit_with_3_after_all_is_scored(
    sample_survey: Path, tmp_path: Path
) -> None:
    done = run("score", sample_survey, "--workers", "0", "--max-rejected", "1", "--json", cwd=tmp_path)

    assert done.returncode == 3
    assert json.loads(done.stdout)["scored"] > 0
    assert "--max-rejected" in done.stderr


def test_sample_says_how_to_score_it(tmp_path: Path) -> None:
    done = run("sample", "drawn", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "crackmodel score drawn" in done.stdout
    assert (tmp_path / "drawn").is_dir()


def test_models_lists_and_shows_the_model_that_ships(tmp_path: Path) -> None:
    listed = json.loads(run("models", "list", "--json", cwd=tmp_path).stdout)["models"]
    card = json.loads(run("models", "show", "builtin", "--json", cwd=tmp_path).stdout)
    shown = run("models", "show", "builtin", cwd=tmp_path).stdout
    lines = run("models", "list", cwd=tmp_path).stdout

    assert [model["model"].partition("@")[0] for model in listed] == ["builtin"]
    assert card["files"]["model.tflite"]["sha256"] == listed[0]["sha256"]
    accuracy = f"{card['metrics']['test']['accuracy']:.4f}"
    assert f"# {listed[0]['model']}" in shown
    assert re.search(rf"^\| test \|.* {accuracy} \|", shown, re.MULTILINE)
    assert f"test accuracy {accuracy}, AUROC" in lines


def test_promoting_an_unknown_version_fails(tmp_path: Path) -> None:
    assert run("models", "promote", "walls@v9", cwd=tmp_path).returncode == 1


def test_version_is_the_package_version(tmp_path: Path) -> None:
    import crackmodel

    assert run("--version", cwd=tmp_path).stdout == f"crackmodel {crackmodel.__version__}\n"


@pytest.mark.parametrize(
    "statement",
    [
        "import crackmodel",
        "import crackmodel.cli.main",
        "from crackmodel import open_report, load_model",
        "from crackmodel.surveys.sample import write_sample",
        "import crackmodel.scoring.run",
    ],
)
def test_nothing_heavy_is_imported_where_it_is_not_needed(statement: str) -> None:
    heavy = {"tensorflow", "keras", "ray", "prefect"}
    code = f"{statement}\nimport sys; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def _every_command() -> list[tuple[str, typer.core.TyperCommand]]:
    found = []
    for name, command in _COMMANDS.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            found += [(f"{name} {sub}", subcommand) for sub, subcommand in command.commands.items()]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize(("name", "command"), _every_command(), ids=str)
def test_every_command_shows_an_example_and_every_option_its_help(
    name: str, command: typer.core.TyperCommand
) -> None:
    assert f"Example: `crackmodel {name}" in (command.help or "")
    assert not [option.name for option in command.params if not getattr(option, "help", None)]


def test_what_the_environment_switches_on_an_option_switches_off(
    scored: Path, sample_survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRACKMODEL_FORCE", "1")
    arguments = ("score", sample_survey, "--workers", "0", "--limit", "1", "--json")
    forced, known = (json.loads(run(*arguments, *flag, cwd=scored).stdout) for flag in ((), ("--no-force",)))

    assert forced["scored"] + forced["rejected"] == 1
    assert known["scored"] + known["rejected"] == 0
