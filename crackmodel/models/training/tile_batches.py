"""Input of fine-tuning: tiles in a mapped file, and batches prepared ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import numpy as np
import numpy.typing as npt

from crackmodel.errors import ModelError
from crackmodel.models.datasets.labelled import TileChunk, read_tiles
from crackmodel.models.preprocessing import TILE_EDGE

AHEAD: Final = 2
"""Batches that are being made, by a thread each, while the network learns from another one."""

_CHUNK: Final = 250

_TILE_BYTES: Final = TILE_EDGE * TILE_EDGE * 3

_NO_TILES: Final = np.empty((0, TILE_EDGE, TILE_EDGE, 3), np.uint8)
"""Stands for tiles that are in the file: an empty view of them would keep all of them in memory."""

Job = TypeVar("Job")
Made = TypeVar("Made")


def map_tiles(root: Path, files: Sequence[str], path: Path) -> TileChunk:
    """Read tiles like `read_tiles`, into a memory-mapped file.

    The operating system keeps as much of it in memory as there is room for.

    Args:
        root: The data set's folder.
        files: Paths relative to it.
        path: The `.npy` file to write, 77 kB a tile; it has to stay for as long as the tiles are used.

    Returns:
        As `read_tiles`; the tiles cannot be written to.

    Raises:
        ModelError: The file cannot be written.
    """
    chunks: list[TileChunk] = []
    good = 0
    try:
        # Written, not mapped yet: a disk that is full then is an error, and not the end of the process.
        with path.open("wb") as file:
            _write_header(file, len(files))
            for start in range(0, len(files), _CHUNK):
                chunk = read_tiles(root, files[start : start + _CHUNK])
                file.write(chunk.tiles.data)
                good += len(chunk.tiles)
                chunks.append(replace(chunk, tiles=_NO_TILES, kept=start + chunk.kept))
            file.seek(0)
            _write_header(file, good)  # as long as before: NumPy leaves room for the number of rows
    except OSError as fault:
        raise ModelError(
            f"The tiles of {root} cannot be written to {path.parent}: {fault.strerror}.",
            f"Free {len(files) * _TILE_BYTES / 2**20:,.0f} MiB there or choose another folder with --models.",
        ) from fault
    return TileChunk(
        np.load(path, mmap_mode="r"),
        np.concatenate([chunk.kept for chunk in chunks]),
        tuple(digest for chunk in chunks for digest in chunk.sha256),
        tuple(fault for chunk in chunks for fault in chunk.bad),
    )


def _write_header(file: BinaryIO, tiles: int) -> None:
    shape = (tiles, TILE_EDGE, TILE_EDGE, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def in_batches(rows: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut rows into batches; the last may be smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def prefetched(make: Callable[[Job], Made], jobs: Iterable[Job], ahead: int = AHEAD) -> Iterator[Made]:
    """Map in order, a few items ahead, in threads.

    Threads suffice: OpenCV, NumPy's generators and TensorFlow let go of the interpreter where time is spent.

    Args:
        make: Called in threads, several at once; what it makes must depend on its argument alone.
        jobs: Its arguments.
        ahead: So many are made at once; 0 makes each when it is asked for, in the caller's thread.

    Yields:
        What `make` returns, as if by `map`; so are its exceptions raised.
    """
    if ahead == 0:
        yield from map(make, jobs)
        return
    with ThreadPoolExecutor(ahead, "prefetch") as threads:
        waiting: deque[Future[Made]] = deque()
        try:
            for job in jobs:
                waiting.append(threads.submit(make, job))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also where the caller stops half-way
            threads.shutdown(wait=False, cancel_futures=True)
