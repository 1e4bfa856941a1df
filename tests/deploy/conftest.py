"""The image of `deploy/Dockerfile`, made once for every test that runs something in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.container import Image, build, missing_privileges
from tests.deploy.manifests import CHECKOUT, DEPLOY


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """What the Dockerfile makes of the checkout; read it, do not change it."""
    if (reason := missing_privileges()) is not None:
        pytest.skip(f"the Dockerfile's steps need mounts of their own: {reason}")
    uv = Path(sys.executable).with_name("uv")
    cache = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    Path(cache).mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("image")
    yield build(DEPLOY / "Dockerfile", CHECKOUT, folder, cache=Path(cache))
    shutil.rmtree(folder)  # 1.4 GB, and pytest would keep three of them


@pytest.fixture(scope="session")
def surveys(sample_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the survey `deck`, which any user may read; read it, do not change it."""
    folder = tmp_path_factory.mktemp("surveys")
    folder.chmod(0o755)
    shutil.copytree(sample_survey, folder / "deck")
    return folder
