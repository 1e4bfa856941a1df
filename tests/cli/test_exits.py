"""How commands end when it was not the output's fault."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crackmodel.cli.exits import FAILED, reported
from crackmodel.cli.main import app
from crackmodel.cluster.jobs.log_protocol import RECORDS_VARIABLE


def said(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that an error stops."""
    with pytest.raises(SystemExit) as ended, reported():
        raise error
    assert ended.value.code == FAILED
    return capsys.readouterr().err


def test_a_time_limit_is_no_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    message = said(TimeoutError("Flow run exceeded timeout of 60.0 second(s)"), capsys)

    assert message.startswith("error: It took too long: Flow run exceeded timeout of 60.0 second(s).\n")
    assert "output" not in message


@pytest.mark.parametrize(
    ("started", "command"),
    [
        (["/venv/bin/python", "/venv/bin/crackmodel"], "crackmodel score 'span 1'"),
        (["/venv/bin/python", "-m", "flows.score"], "python -m flows.score score 'span 1'"),
    ],
)
def test_an_interrupted_command_names_the_one_that_does_the_rest(
    started: list[str], command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "span 1"]
    monkeypatch.setattr(sys, "orig_argv", started + arguments)
    monkeypatch.setattr(sys, "argv", ["/venv/bin/crackmodel", *arguments])

    assert said(KeyboardInterrupt(), capsys).endswith(f"run the same command again for the rest: {command}\n")
    monkeypatch.setenv(RECORDS_VARIABLE, "1")
    assert said(KeyboardInterrupt(), capsys).endswith("run the same command again for the rest.\n")


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = said(OSError(errno.EACCES, "Permission denied", str(tmp_path / "a")), capsys)

    assert message.startswith(f"error: {tmp_path / 'a'} cannot be used: Permission denied.\n")
    assert "output" not in message


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 10**6])
def test_a_full_disk_below_the_output_is_said(unbuffered: str, lines: int) -> None:
    code = f"from crackmodel.cli.exits import reported\nwith reported(): print('a line' * {lines})"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )

    assert done.returncode == FAILED
    assert done.stderr.startswith("error: The output cannot be written: ")


@pytest.mark.parametrize(
    ("error", "problem", "advised"),
    [
        (
            OSError("AWS Error NETWORK_CONNECTION during HeadObject"),
            "nothing answers there",
            "AWS_ENDPOINT_URL",
        ),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", "run the same command again"),
    ],
)
def test_a_storage_that_fails_is_not_the_output(
    error: OSError, problem: str, advised: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = said(error, capsys)

    assert "output cannot" not in message
    assert problem in message
    assert advised in message


def test_a_job_s_result_is_tagged_and_a_person_s_is_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", str(tmp_path / "survey"), "--json"]
    app(arguments, standalone_mode=False)
    plain = capsys.readouterr().out
    monkeypatch.setenv(RECORDS_VARIABLE, "1")
    app(arguments, standalone_mode=False)

    assert json.loads(plain)["files"] > 0
    assert capsys.readouterr().out == f"@result {plain}"


def test_a_time_limit_without_words_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), reported():
        raise TimeoutError
    assert "a time limit passed" in capsys.readouterr().err


def test_a_pipe_that_is_not_the_output_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, reported():
        raise BrokenPipeError(32, "Broken pipe")
    printed, said = capsys.readouterr()
    assert ended.value.code == 1
    assert "has failed" in said
    assert not printed.strip()


def test_a_command_whose_output_is_closed_ends_well() -> None:
    code = "from crackmodel.cli.exits import reported\nwith reported(): pass"
    command = ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, code]
    assert subprocess.run(command, check=False).returncode == 0
