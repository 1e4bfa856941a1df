"""Files that are seen whole or not at all, and locks that end with their process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crackmodel.storage.files import lock, replacing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    path.write_text("before")
    with pytest.raises(TypeError), replacing(path) as unfinished:  # noqa: PT012
        unfinished.write_text("half")
        unfinished.write_text(None)  # type: ignore[arg-type]
    assert path.read_text() == "before"
    with replacing(path) as unfinished:
        assert (unfinished.name[0], unfinished.suffix) == (".", ".npz")
        unfinished.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_until_its_file_is_closed_or_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock(path), pytest.raises(BlockingIOError):
        lock(path, wait=False)
    lock(path, wait=False).close()
    code = "import sys, pathlib; from crackmodel.storage.files import lock; "
    code += "held = lock(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError):
        lock(path, wait=False)
    other.kill()
    other.communicate()
    lock(path, wait=False).close()
