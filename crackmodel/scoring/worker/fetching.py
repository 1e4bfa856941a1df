"""Read a shard's files ahead of the model."""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from crackmodel.errors import ImageRejected, SurveyError
from crackmodel.scoring.plan import ListedFile
from crackmodel.storage.advice import advice
from crackmodel.storage.object_stores import CONNECTIONS
from crackmodel.surveys.decoding import DecodeLimits, identify
from crackmodel.text import printable

_Group = Sequence[ListedFile]
_Contents = Future[list[bytes | ImageRejected]]
Fetched = tuple[ListedFile, bytes | ImageRejected]

_PEEK_BYTES: Final = 2**20
"""A file larger than this is read in full only after its first bytes turn out to be an image's."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How far and how wide to read ahead."""

    threads: int  # files that are read at the same time
    group_bytes: int  # files are handed to a thread in groups of this size
    groups_ahead: int  # most groups that are read or wait, besides the one that is being scored
    bytes_ahead: int  # most bytes of them; a group that is larger is the only one


_NOT_DELETED: Final = 10
"""Where all of so many files in a shard are gone, they were not deleted one by one: a share below the survey
was unmounted, or a folder moved. The next run's listing shows which."""

_DISK: Final = _Pace(threads=1, group_bytes=2**20, groups_ahead=1, bytes_ahead=2**20)
"""Handing a small file to a thread costs more than reading it."""

_STORE: Final = _Pace(
    threads=CONNECTIONS, group_bytes=1, groups_ahead=2 * CONNECTIONS, bytes_ahead=32 * 2**20
)
"""A store takes 20-50 ms to begin an answer, twice for a file, and a small image is scored in one."""


def fetch_ahead(
    storage: FileSystem, root: str, files: Sequence[ListedFile], limits: DecodeLimits
) -> Iterator[Fetched]:
    """Yield files with their bytes, while threads fetch the next.

    Args:
        storage: Where the survey is.
        root: Its folder there.
        files: At least one.
        limits: Larger files are not read.

    Raises:
        SurveyError: The survey is gone, or its storage cannot be read any more.
    """
    vanished = 0
    pace = _DISK if isinstance(storage, LocalFileSystem) else _STORE

    def fetch(group: _Group) -> list[bytes | ImageRejected]:
        return [_fetch(storage, root, listed, limits) for listed in group]

    with ThreadPoolExecutor(pace.threads, thread_name_prefix="fetch") as pool:
        try:
            for group, contents in _read_ahead(files, limits, pace, lambda group: pool.submit(fetch, group)):
                for listed, content in zip(group, contents.result(), strict=True):
                    vanished += isinstance(content, ImageRejected) and content.code == "vanished"
                    yield listed, content
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if vanished == len(files) >= _NOT_DELETED:
        raise _went_away(root, f"not one of {vanished} files is there, {files[0].image} to {files[-1].image}")


def _read_ahead(
    files: Sequence[ListedFile], limits: DecodeLimits, pace: _Pace, submit: Callable[[_Group], _Contents]
) -> Iterator[tuple[_Group, _Contents]]:
    """Yield groups of files in order, the next ones submitted already."""
    left = deque(_group_by_bytes(files, pace.group_bytes))
    ahead: deque[tuple[_Group, int, _Contents]] = deque()
    bytes_ahead = 0

    def fill() -> None:
        nonlocal bytes_ahead
        while left and len(ahead) < pace.groups_ahead:
            # What is too large is rejected unread, and takes no room.
            size = sum(listed.bytes for listed in left[0] if listed.bytes <= limits.max_bytes)
            if ahead and bytes_ahead + size > pace.bytes_ahead:
                return
            group = left.popleft()
            ahead.append((group, size, submit(group)))
            bytes_ahead += size

    fill()
    while ahead:
        group, size, contents = ahead.popleft()
        bytes_ahead -= size
        fill()
        yield group, contents


def _group_by_bytes(files: Sequence[ListedFile], least: int) -> Iterator[_Group]:
    start, size = 0, 0
    for position, listed in enumerate(files):
        size += listed.bytes
        if size >= least or position == len(files) - 1:
            yield files[start : position + 1]
            start, size = position + 1, 0


def _fetch(storage: FileSystem, root: str, listed: ListedFile, limits: DecodeLimits) -> bytes | ImageRejected:
    """Read one file, and return its content or why it is rejected."""
    if listed.bytes > limits.max_bytes:
        detail = f"{listed.bytes} bytes, and the limit is {limits.max_bytes}"
        return ImageRejected("too_many_bytes", "fetch", detail)
    try:
        with storage.open_input_file(f"{root}/{listed.image}") as file:
            if listed.bytes > _PEEK_BYTES:
                if identify(file.read(32)) is None:
                    detail = "the first bytes are no known image format's"
                    return ImageRejected("not_an_image", "identify", detail)
                file.seek(0)
            content = bytes(file.read(listed.bytes + 1))  # a file that has grown is not read to its end
    except (FileNotFoundError, NotADirectoryError):
        _require_survey(storage, root)
        return ImageRejected("vanished", "fetch", "the file was deleted after it was listed")
    except (OSError, pa.ArrowException) as error:
        _require_answer(storage, root, listed.image)
        return ImageRejected("unreadable", "fetch", f"{type(error).__name__}: {error}")
    if len(content) != listed.bytes:
        detail = f"it had {listed.bytes} bytes when it was listed, and has more or less now"
        return ImageRejected("changed", "fetch", detail)
    return content


def _require_survey(storage: FileSystem, root: str) -> None:
    """Check that the survey is there, and no empty mount point."""
    try:
        with _answering(root):
            there = storage.get_file_info(root).type == FileType.Directory
            empty = there and isinstance(storage, LocalFileSystem) and _is_empty(root)
    except (FileNotFoundError, NotADirectoryError):
        there = empty = False
    if not there:
        raise _went_away(root, "it is not there any more")
    if empty:
        raise _went_away(root, "its folder is empty")


def _went_away(root: str, how: str) -> SurveyError:
    return SurveyError(
        f"The survey {printable(root)} went away while it was scored: {printable(how)}.",
        "Mount it again, on every node, and run the same command again: what was committed stays.",
    )


def _require_answer(storage: FileSystem, root: str, image: str) -> None:
    """Check that the storage answers, and the image alone cannot be read.

    On a disk the file's folder is read, as by the listing: what would stop a listing stops the run.
    """
    try:
        with _answering(root):
            if isinstance(storage, LocalFileSystem):
                _is_empty(f"{root}/{image}".rpartition("/")[0])
            else:
                storage.get_file_info(root)
    except (FileNotFoundError, NotADirectoryError):
        _require_survey(storage, root)


@contextmanager
def _answering(root: str) -> Iterator[None]:
    """Turn an error of the storage into one that ends the run."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        why, what_to_do = advice(error) or (
            str(error),
            "Check the mount or the network, and the credentials, on every node.",
        )
        raise SurveyError(
            f"A worker on {platform.node()} cannot read {printable(root)} any more: {printable(why)}.",
            f"{what_to_do} Every node needs access of its own; what was committed stays.",
        ) from None


def _is_empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None
