"""What the tests use in place of a container engine: it leaves no process behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.deploy.container import Image, kill, missing_privileges, namespace, processes

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(tmp_path: Path) -> Image:
    """An image with nothing in it but this machine's programs."""
    if (reason := missing_privileges()) is not None:
        pytest.skip(f"a root directory needs mounts of its own: {reason}")
    return Image.empty(tmp_path / "root")


def test_what_is_killed_takes_everything_with_it(empty: Image) -> None:
    # As a service does: another user, a process in the background, and one that left the session.
    script = "sleep 600 & setsid sleep 600 & echo there; wait"
    process = subprocess.Popen(empty.argv(["sh", "-c", script], user="10001:10001"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    inside = namespace(process)
    assert len(processes({inside})) >= 3

    kill([process])

    process.stdout.close()
    assert processes({inside}) == []


def test_a_command_s_end_is_the_command_line_s(empty: Image) -> None:
    done = subprocess.run(empty.argv(["sh", "-c", "exit 7"], user="10001:10001"), check=False)

    assert done.returncode == 7
