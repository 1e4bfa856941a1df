"""The services of the Compose file, started without Compose in what the Dockerfile makes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.deploy.container import Image, Mount, kill

_HEALTHY_SECONDS: Final = 360
_DATABASE: Final = "PREFECT_SERVER_DATABASE_"
# There is a name server among containers, and none here: names are looked up in /etc/hosts.
_NO_NAME_SERVER: Final = {"GRPC_DNS_RESOLVER": "native"}
VOLUMES: Final = ("data", "prefect")
HOSTS: Final = "127.0.0.1 localhost prefect-server\n10.0.0.1 ray-head\n"


@dataclass
class Services:
    """How each service is started: as the file says, in one of two networks.

    Attributes:
        image: What all of them run.
        said: The services of the file.
        networks: Processes in the head's network, which Prefect shares, and in the worker's.
        folder: Has the secrets, `hosts` and the volumes; logs are written there.
        surveys: The folder that is mounted as such.
    """

    image: Image
    said: dict[str, Any]
    networks: tuple[int, int]
    folder: Path
    surveys: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def argv(self, name: str, command: list[str] | None = None, **variables: str) -> list[str]:
        """The command line of a service, with the mounts, user, environment and network that it gets."""
        service = self.said[name]
        assert service["image"].startswith("crackmodel:")
        sources = {volume: self.folder / volume for volume in VOLUMES} | {"/srv/surveys": self.surveys}
        mounts = [Mount(place.split(":")[0]) for place in service["tmpfs"]] + [Mount("/dev/shm")]
        for volume in service.get("volumes", ()):
            mounts.append(Mount(volume["target"], sources[volume["source"]], volume.get("read_only", False)))
        for secret in service.get("secrets", ()):
            mounts.append(Mount(f"/run/secrets/{secret}", self.folder / secret, read_only=True))
        mounts.append(Mount("/etc/hosts", self.folder / "hosts", read_only=True))
        return self.image.argv(
            command or service["command"],
            # There is no Postgres here, and Prefect takes SQLite then.
            environment={
                key: str(value)
                for key, value in service["environment"].items()
                if not key.startswith(_DATABASE)
            }
            | _NO_NAME_SERVER
            | variables,
            mounts=mounts,
            user=service["user"],
            read_only=service["read_only"],
            network=self.networks[name == "ray-worker"],
        )

    def start(self, *names: str) -> None:
        """Start services at once, and wait until the check of each passes where it runs."""
        for name in names:
            self._launch(name)
        end = time.monotonic() + _HEALTHY_SECONDS
        for name in names:
            kind, *check = self.said[name]["healthcheck"]["test"]
            assert kind == "CMD"
            while True:
                if self.running[name].poll() is not None:
                    # On a busy machine Ray gives itself up, and leaves it to others to try again.
                    assert self.said[name]["restart"] == "unless-stopped", f"{name}:\n{self.log(name)}"
                    self._launch(name)
                done = subprocess.run(self.argv(name, check), capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    break
                assert time.monotonic() < end, f"{name}: {done.stderr[-500:]}\n{self.log(name)}"
                time.sleep(1)

    def _launch(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(self.argv(name), stdout=log, stderr=subprocess.STDOUT)

    def run(self, name: str, command: list[str] | None = None, **variables: str) -> str:
        """Run a service to its end, or another command in its place; returns its output."""
        done = subprocess.run(
            self.argv(name, command, **variables),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=_HEALTHY_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}\n{self.log('prefect-worker')}"
        return done.stdout

    def log(self, name: str) -> str:
        """The end of what a service wrote."""
        path = self.folder / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    @contextmanager
    def stopped_at_the_end(self) -> Iterator[None]:
        """Leave no process behind."""
        try:
            yield
        finally:
            kill(self.running.values())
