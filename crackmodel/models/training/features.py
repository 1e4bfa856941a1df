"""Features of a data set by the frozen backbone, in Ray tasks or threads.

The backbone goes through LiteRT here: three to five times faster than Keras on a CPU, equal up to float
error, and no worker has to import TensorFlow. Training checks the assembled Keras network
against these features before anything is published. What an earlier training extracted is not extracted
again: see `crackmodel.models.training.feature_cache`.

Threads are as fast as Ray's processes here (LiteRT and OpenCV let go of the interpreter lock) and start at
once, so a machine alone needs Ray only where there are so many images that its start does not matter and
Python's share of the work might: see `_RAY_FROM`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from crackmodel.cluster.capacity import Capacity, ClusterAwaited
from crackmodel.cluster.session import joins_cluster, ray_session
from crackmodel.errors import ClusterError
from crackmodel.models.datasets.labelled import BadFile, LabelledImages, read_tiles
from crackmodel.models.inference.engines import LiteRTModel
from crackmodel.models.network import FEATURES
from crackmodel.models.training.feature_cache import FeatureCache
from crackmodel.models.training.training_events import FeaturesExtracted

CHUNK: Final = 250
"""Files a task reads: half a second of work, 1.3 MB of features."""

_RAY_FROM: Final = 100
"""Chunks from which on a machine alone starts a Ray of its own: 25,000 images, a minute on two cores."""

_ATTEMPTS: Final = 2

_TICK_SECONDS: Final = 1.0

OnEvent = Callable[[FeaturesExtracted | ClusterAwaited], None]

_LOADED: Final = threading.local()
"""The backbone that a thread has loaded: an interpreter runs one image at a time."""


@dataclass(frozen=True, slots=True)
class Features:
    """Features of a data set's usable files, in its order.

    Attributes:
        values: float32 [n, 1280].
        kept: int64 [n], each row's place among the data set's files.
        sha256: The content's hash of each row's file.
        bad: Files that were left out.
    """

    values: npt.NDArray[np.float32]
    kept: npt.NDArray[np.int64]
    sha256: tuple[str, ...]
    bad: tuple[BadFile, ...]


def extract_features(
    images: LabelledImages,
    backbone: bytes,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    on_event: OnEvent = lambda _: None,
) -> Features:
    """Turn every image into features.

    Args:
        images: The data set; its folder must be readable by every worker.
        backbone: The LiteRT export of the backbone.
        cache: Folder of features that are known already, and of those that become so; None for none.
        workers: Threads, or tasks of Ray at once, None for all CPUs; 0 works in this thread, and so does what
            is left for a single chunk.
        on_event: Called when the cache has been read, after every chunk, and while Ray has no room.

    Returns:
        Features in the data set's order, whatever order the tasks end in.

    Raises:
        ClusterError: Ray cannot be reached, has no CPU for a quarter of an hour, or a chunk failed
            repeatedly.
        ModelError: The cache cannot be written.
    """
    stored = FeatureCache(cache, backbone)
    rows = _known(images, stored)
    pending = [place for place in range(len(images.files)) if place not in rows]
    done = len(rows)
    if done:
        on_event(FeaturesExtracted(done, len(images.files)))
    places = [pending[start : start + CHUNK] for start in range(0, len(pending), CHUNK)]
    chunks = [[images.files[place] for place in chunk] for chunk in places]
    bad: dict[int, BadFile] = {}
    for number, part in _run(images.root, chunks, backbone, workers, on_event):
        good = [places[number][row] for row in part.kept]
        rows |= zip(good, zip(part.sha256, part.values, strict=True), strict=True)
        bad |= zip(sorted(set(places[number]) - set(good)), part.bad, strict=True)
        stored.add(part.sha256, part.values)
        done += len(chunks[number])
        on_event(FeaturesExtracted(done, len(images.files)))
    kept = sorted(rows)
    return Features(
        np.stack([rows[place][1] for place in kept]) if kept else np.empty((0, FEATURES), np.float32),
        np.array(kept, np.int64),
        tuple(rows[place][0] for place in kept),
        tuple(bad[place] for place in sorted(bad)),
    )


def tile_features(
    tiles: npt.NDArray[np.uint8],
    sha256: Sequence[str],
    backbone: bytes,
    *,
    cache: Path | None = None,
    on_event: Callable[[FeaturesExtracted], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """Turn tiles that have been read already into features, in this process.

    Args:
        tiles: uint8 [n, 160, 160, 3].
        sha256: The hash of each tile's file.
        backbone: As for `extract_features`.
        cache: As for `extract_features`.
        on_event: As for `extract_features`.

    Returns:
        float32 [n, 1280].

    Raises:
        ModelError: The cache cannot be written.
    """
    stored = FeatureCache(cache, backbone)
    known = stored.load()
    pending = [row for row, digest in enumerate(sha256) if digest not in known]
    done = len(tiles) - len(pending)
    if done:
        on_event(FeaturesExtracted(done, len(tiles)))
    for start in range(0, len(pending), CHUNK):
        rows = pending[start : start + CHUNK]
        hashes = [sha256[row] for row in rows]
        values = _backbone(backbone).run(tiles[rows])
        stored.add(hashes, values)
        known |= zip(hashes, values, strict=True)
        done += len(rows)
        on_event(FeaturesExtracted(done, len(tiles)))
    return np.stack([known[digest] for digest in sha256])


def _known(images: LabelledImages, stored: FeatureCache) -> dict[int, tuple[str, npt.NDArray[np.float32]]]:
    """Find the files whose features are cached, by place."""
    known = stored.load()
    if not known:
        return {}  # spares reading every file twice

    def digest(file: str) -> str | None:
        try:
            with (images.root / file).open("rb") as content:
                return hashlib.file_digest(content, "sha256").hexdigest()
        except OSError:
            return None  # reading it for its features says why

    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(digest, images.files))
    return {
        place: (digest, known[digest])
        for place, digest in enumerate(digests)
        if digest is not None and digest in known
    }


def chunk_features(root: Path, files: Sequence[str], backbone: bytes) -> Features:
    """Turn some files into features; what a Ray task runs.

    Args:
        root: The data set's folder.
        files: Paths relative to it.
        backbone: The LiteRT export of the backbone; loaded once a thread.

    Returns:
        Features in the order of `files`; `kept` counts within them.
    """
    chunk = read_tiles(root, files)
    return Features(_backbone(backbone).run(chunk.tiles), chunk.kept, chunk.sha256, chunk.bad)


def _backbone(content: bytes) -> LiteRTModel:
    digest = hashlib.sha256(content).digest()
    if getattr(_LOADED, "digest", None) != digest:
        _LOADED.model, _LOADED.digest = LiteRTModel(content), digest
    model: LiteRTModel = _LOADED.model
    return model


def _run(
    root: Path, chunks: Sequence[Sequence[str]], backbone: bytes, workers: int | None, on_event: OnEvent
) -> Iterator[tuple[int, Features]]:
    """Turn chunks into features: in this thread, in several, or on Ray."""
    if workers == 0 or len(chunks) <= 1:
        return enumerate(chunk_features(root, files, backbone) for files in chunks)
    if joins_cluster() or len(chunks) >= _RAY_FROM:
        return _run_on_ray(root, chunks, backbone, workers, on_event)
    return _run_in_threads(root, chunks, backbone, workers or os.cpu_count() or 1)


def _run_in_threads(
    root: Path, chunks: Sequence[Sequence[str]], backbone: bytes, threads: int
) -> Iterator[tuple[int, Features]]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="features")
    try:
        yield from enumerate(pool.map(lambda files: chunk_features(root, files, backbone), chunks))
    finally:
        pool.shutdown(cancel_futures=True)


def _run_on_ray(
    root: Path, chunks: Sequence[Sequence[str]], backbone: bytes, workers: int | None, on_event: OnEvent
) -> Iterator[tuple[int, Features]]:
    with ray_session(workers):
        import ray

        capacity = Capacity(workers, on_wait=on_event)
        task = ray.remote(num_cpus=1, max_retries=_ATTEMPTS)(chunk_features)
        shared = ray.put(backbone)
        waiting = iter(enumerate(chunks))
        running: dict[Any, int] = {}
        try:
            while True:
                for number, files in islice(waiting, max(0, capacity.room() - len(running))):
                    running[task.remote(root.absolute(), files, shared)] = number
                if not running:
                    return
                finished, _ = ray.wait(list(running), num_returns=1, timeout=_TICK_SECONDS)
                for reference in finished:
                    part: Features = ray.get(reference)
                    # A copy: what Ray gives is a view into its object store, which all of them would fill.
                    yield running.pop(reference), replace(part, values=part.values.copy())
        except ray.exceptions.RayError as fault:
            raise ClusterError(
                f"A chunk of {root} could not be turned into features: {' '.join(str(fault).split())[:300]}.",
                "Check that every worker can read the data set, or use --workers 0 to see the fault here.",
            ) from fault
