"""The Dockerfile: linted, followed step by step, and what comes out started as the Compose file starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from crackmodel.reports.queries import open_report
from tests.deploy.container import Image, Mount, two_networks
from tests.deploy.manifests import CHECKOUT, compose, locked

_HEALTHY_SECONDS: Final = 120
# There is a name server among containers, and none here: names are looked up in /etc/hosts.
_NO_NAME_SERVER: Final = {"GRPC_DNS_RESOLVER": "native"}
_HOSTS: Final = "127.0.0.1 localhost prefect-server\n10.0.0.1 ray-head\n"


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


@dataclass
class Stack:
    """Services of the Compose file, started without Compose."""

    image: Image
    services: dict[str, Any]
    networks: tuple[int, int]
    folder: Path
    surveys: Path

    def argv(self, name: str, command: list[str] | None = None, **variables: str) -> list[str]:
        """The command line of a service, with the mounts, user, environment and network that it gets."""
        service = self.services[name]
        assert service["image"].startswith("crackmodel:")
        sources = {"surveys": self.surveys, "data": self.folder / "data", "/srv/surveys": self.surveys}
        mounts = [Mount(place.split(":")[0]) for place in service["tmpfs"]] + [Mount("/dev/shm")]
        for volume in service.get("volumes", ()):
            mounts.append(Mount(volume["target"], sources[volume["source"]], volume.get("read_only", False)))
        for secret in service.get("secrets", ()):
            mounts.append(Mount(f"/run/secrets/{secret}", self.folder / secret, read_only=True))
        mounts.append(Mount("/etc/hosts", self.folder / "hosts", read_only=True))
        return self.image.argv(
            command or service["command"],
            environment={key: str(value) for key, value in service["environment"].items()}
            | _NO_NAME_SERVER
            | variables,
            mounts=mounts,
            user=service["user"],
            read_only=service["read_only"],
            network=self.networks[name == "ray-worker"],
        )

    def healthy(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Wait until the service's own check passes, where the service runs."""
        kind, *check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        end = time.monotonic() + _HEALTHY_SECONDS
        while True:
            assert process.poll() is None, f"{name} ended:\n{log.read_text()[-3000:]}"
            done = subprocess.run(self.argv(name, check), capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            assert time.monotonic() < end, f"{name}: {done.stderr[-500:]}\n{log.read_text()[-3000:]}"
            time.sleep(1)


@pytest.fixture(scope="module")
def stack(image: Image, surveys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Ray head and a worker, each in a network of its own, as the Compose file says."""
    if shutil.which("ip") is None:
        pytest.skip("two networks need iproute2's ip")
    folder = tmp_path_factory.mktemp("stack")
    (folder / "hosts").write_text(_HOSTS)
    (folder / "ray_token").write_text("0123456789abcdef" * 4)
    (folder / "data").mkdir()
    os.chown(folder / "data", 10001, 10001)
    services = compose({"CRACKMODEL_SURVEYS": "/srv/surveys"})["services"]
    with two_networks() as networks:
        stack = Stack(image, services, networks, folder, surveys)
        started: list[subprocess.Popen[bytes]] = []
        try:
            for name in ("ray-head", "ray-worker"):
                log = folder / f"{name}.log"
                with log.open("wb") as output:
                    started.append(
                        subprocess.Popen(stack.argv(name), stdout=output, stderr=subprocess.STDOUT)
                    )
                stack.healthy(name, started[-1], log)
            yield stack
        finally:
            for process in started:
                process.kill()  # and the kernel everything in its process namespace
                process.wait()


@pytest.mark.integration
class TestCluster:
    """Ray as the Compose file starts it: two networks, users, file systems and secrets."""

    def test_a_job_is_scored_by_the_worker(self, stack: Stack) -> None:
        done = subprocess.run(
            stack.argv("prefect-worker", ["crackmodel", "score", "/srv/surveys/deck", "--json"]),
            capture_output=True, text=True, timeout=_HEALTHY_SECONDS, check=False,
        )  # fmt: skip

        # The head has no CPU to score with: the worker read the photographs and wrote the report.
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["scored"] > 0
        assert open_report(stack.folder / "data" / "report").sql("from report").num_rows == result["listed"]

    def test_without_the_token_nobody_submits(self, stack: Stack) -> None:
        refused = subprocess.run(
            stack.argv("prefect-worker", ["ray", "job", "list"], RAY_AUTH_MODE="disabled"),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

        assert refused.returncode != 0
        assert "401" in refused.stdout + refused.stderr or "auth" in (refused.stdout + refused.stderr).lower()
