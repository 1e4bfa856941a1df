"""The Dockerfile: linted, followed step by step, and what comes out used as a container would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crackmodel.reports.reading.query import open_report
from tests.deploy.container import Image, Mount
from tests.deploy.manifests import CHECKOUT, locked


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")

    done = subprocess.run(
        [linter, "deploy/Dockerfile"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
    bad = subprocess.run(
        [linter, "-"], input="FROM python:latest\nRUN cd /tmp\n", capture_output=True, text=True, check=False
    )
    assert "DL3007" in bad.stdout


@pytest.mark.integration
class TestImage:
    """What every step of the Dockerfile leaves behind."""

    def test_it_has_the_locked_versions_and_nothing_that_builds_or_tests(self, image: Image) -> None:
        code = (
            "import importlib.metadata as m, json; "
            "print(json.dumps({d.name: d.version for d in m.distributions()}))"
        )
        done = subprocess.run(image.argv(["python", "-c", code]), capture_output=True, text=True, check=True)
        installed = {name.lower(): version for name, version in json.loads(done.stdout).items()}

        lock = "deploy/requirements-cluster.lock"
        for name in ("ray", "prefect", "deltalake", "ai-edge-litert", "aiohttp", "asyncpg"):
            assert installed[name] == locked(name, lock)
        assert not {"uv", "hatchling", "editables", "pip", "pytest", "tensorflow"} & set(installed)
        assert image.at("/opt/crackmodel/lib/python3.11/site-packages/flows/nightly.py").is_file()

    def test_it_scores_as_another_user_without_writing_to_itself(
        self, image: Image, surveys: Path, tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        os.chown(data, 10001, 10001)
        mounts = [
            Mount("/tmp"),
            Mount("/srv/surveys", surveys, read_only=True),
            Mount("/srv/crackmodel", data),
        ]

        done = subprocess.run(
            image.argv(
                ["crackmodel", "score", "/srv/surveys/deck", "--workers", "0", "--json"],
                mounts=mounts, read_only=True,
            ),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["scored"] > 0
        report = data / "report"
        assert report.stat().st_uid == 10001
        assert open_report(report).sql("from report").num_rows == json.loads(done.stdout)["listed"]
        refused = subprocess.run(
            image.argv(["touch", "/opt/crackmodel/there"], read_only=True),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Read-only file system" in refused.stderr
        identity = subprocess.run(image.argv(["id", "-u"]), capture_output=True, text=True, check=True)
        assert identity.stdout.strip() == "10001"

    def test_a_login_shell_finds_ray_too(self, image: Image) -> None:
        # KubeRay starts containers so, and /etc/profile sets PATH anew.
        done = subprocess.run(
            image.argv(["bash", "-lc", "command -v ray prefect crackmodel"]),
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.split() == [
            f"/opt/crackmodel/bin/{name}" for name in ("ray", "prefect", "crackmodel")
        ]
