"""Local files that survive a power cut, are seen whole or not at all, or are locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk.

    Otherwise a power cut may leave a committed file empty.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a hidden path to write to, then rename it to `path`.

    The hidden name ends like the file's own, by which some libraries choose a format.

    Raises:
        OSError: The file cannot be written; what was there before stays.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
        sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def lock(path: Path, *, wait: bool = True) -> BinaryIO:
    """Open a file, made if missing, and lock it until it is closed or the process ends.

    Args:
        path: The file. Do not remove it after: two processes could then lock two files of one name.
        wait: Whether to wait while another process holds the lock.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is off.
        OSError: The file cannot be opened.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
