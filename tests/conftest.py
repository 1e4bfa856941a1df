"""What every test may use: real data where it is at hand, a drawn survey, one embedded Ray.

Tests that start a service have the mark `integration`; `make check` leaves them out. Tests that use a fixture
of `_STARTING` get the mark by themselves, and so do all tests of a file that begins with
`pytest.importorskip("tensorflow")`, which `make check` does not import. Only a test that starts something
in its own way is marked by hand, and one that starts Ray or loads TensorFlow without the mark fails.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from pyarrow import fs

from crackmodel.storage import object_stores
from crackmodel.surveys.sample import SampleSurvey, write_sample
from tests import prefect_server as prefect_servers
from tests.models.drawings import draw_clear, draw_crack
from tests.object_store import BUCKET, ObjectStore, serve
from tests.prefect_server import PrefectServer

hypothesis.settings.register_profile("no-timing", deadline=None)
hypothesis.settings.load_profile("no-timing")

_CHECKOUT = Path(__file__).resolve().parent.parent

_STARTING = {
    "prefect": "prefect",
    "prefect_server": "prefect",
    "embedded_ray": "tensorflow",
    "weights": "tensorflow",
    "image": "image",
    "_object_store": "object-store",
}
"""Fixtures that start a service, and the group of their tests: the longest first."""


@functools.cache
def _is_about_tensorflow(file: Path) -> bool:
    return re.search(r'^pytest\.importorskip\("tensorflow"\)', file.read_text(), re.MULTILINE) is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Save the seconds that importing TensorFlow takes where its tests are not wanted."""
    unwanted = config.option.markexpr == "not integration" and collection_path.suffix == ".py"
    return True if unwanted and _is_about_tensorflow(collection_path) else None


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a service, and put those of one service into one group of xdist's.

    A group stays in one process, so a service starts once. Every other file is a group of its own, so that
    what its tests share is made once. Where there are several processes, the long groups come first.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        started = [group for fixture, group in _STARTING.items() if fixture in fixtures]
        if not started and _is_about_tensorflow(item.path):
            started = ["tensorflow"]
        if started:
            item.add_marker("integration")
        if item.get_closest_marker("xdist_group") is None:
            file = item.path.relative_to(_CHECKOUT / "tests").as_posix()
            item.add_marker(pytest.mark.xdist_group((started or [file])[0]))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    group = item.get_closest_marker("xdist_group")
    ranked = [*_STARTING.values(), group.args[0] if group else ""]
    return item.get_closest_marker("integration") is None, ranked.index(ranked[-1])


@pytest.fixture(autouse=True)
def _starts_nothing_unmarked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that has started Ray or loaded TensorFlow and does not have the mark."""
    before = _running()
    yield
    if request.node.get_closest_marker("integration") is None:
        assert _running() <= before, "mark this test `integration`: it starts a service"


def _running() -> set[str]:
    ray = sys.modules.get("ray")
    running = {"Ray": ray is not None and ray.is_initialized(), "TensorFlow": "tensorflow" in sys.modules}
    return {name for name, is_running in running.items() if is_running}


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """Run with the defaults, whatever the shell that runs the tests has set."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if (
                variable == "RAY_ADDRESS"
                or variable.startswith("AWS_")
                or (variable.startswith("CRACKMODEL_") and variable != "CRACKMODEL_TEST_DATA")
            ):
                patch.delenv(variable)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and weights."""
    folder = Path(os.environ.get("CRACKMODEL_TEST_DATA", _CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real images here: set CRACKMODEL_TEST_DATA to a folder that holds them")
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleSurvey:
    """The drawn survey and what is known about it; read it, do not change it."""
    return write_sample(tmp_path_factory.mktemp("drawn") / "sample-survey")


@pytest.fixture(scope="session")
def sample_survey(sample: SampleSurvey) -> Path:
    """Folder of the drawn survey; read it, do not change it."""
    return sample.directory


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random backbone weights with batch statistics to match.

    Untouched batch statistics make every feature vanish (4e-12), and then any two networks are equal.
    """
    import keras

    keras.utils.set_random_seed(11)
    backbone = keras.applications.MobileNetV2(input_shape=(160, 160, 3), include_top=False, weights=None)
    layers = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.momentum = 0.0
    rng = np.random.default_rng(12)
    tiles = np.stack([draw(rng) for draw in (draw_crack, draw_clear) for _ in range(8)])
    backbone(tiles.astype(np.float32) / 127.5 - 1, training=True)
    path = tmp_path_factory.mktemp("weights") / "calibrated.weights.h5"
    backbone.save_weights(path)
    return path


@pytest.fixture(scope="session")
def embedded_ray() -> Iterator[None]:
    """One embedded Ray with two task slots for all tests that need one."""
    from crackmodel.cluster.session import ray_session

    with ray_session(workers=2):
        yield


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One real Prefect server for all tests that need one; use names of your own in it."""
    with prefect_servers.started(tmp_path_factory.mktemp("prefect-server")) as server:
        yield server


@pytest.fixture(scope="session")
def _object_store() -> Iterator[ObjectStore]:
    with serve() as store:
        yield store


@pytest.fixture
def object_store(_object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An S3 store on this machine, as the environment of AWS' own tools names it; its bucket is empty."""
    for name, value in _object_store.environment().items():
        monkeypatch.setenv(name, value)
    yield _object_store
    _object_store.forget()


@pytest.fixture
def upload(object_store: ObjectStore) -> Callable[[Path, str], str]:
    """Copy a folder into the bucket; returns its URI."""

    def copy(folder: Path, name: str) -> str:
        target = object_stores.open_store(f"s3://{BUCKET}/{name}")
        fs.copy_files(str(folder), target.path, fs.LocalFileSystem(), target.filesystem)
        return f"s3://{BUCKET}/{name}"

    return copy


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
