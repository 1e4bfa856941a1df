"""Cut a listing into shards, one for each task and file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

_BYTES_PER_TILE: Final = 20_000
"""Rough size of a tile in a JPEG photograph: 12 megapixels, 5 MB and 234 tiles. A file of any size costs
at least one tile of scoring, so a shard of small patches is not taken for cheap because it is light."""

_SHARDS_PER_SLOT: Final = 4
"""A small survey is cut finer, so that every slot has work and the last shard does not take long."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ListedFile(NamedTuple):
    """A listed file: path within the survey, size, time (UTC)."""

    image: str
    bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Shard:
    """Some images of a survey.

    Args:
        number: Position in the run, from 0; part of the name of the shard's file.
        files: The images, in the order of the listing.
        cut: Whether it is a part of a shard that killed its worker.
    """

    number: int
    files: tuple[ListedFile, ...]
    cut: bool = False


def plan_shards(pending: pa.Table, *, max_images: int, max_bytes: int, slots: int) -> Iterator[Shard]:
    """Cut a listing into shards, in order, each image in exactly one.

    A shard closes before it would hold more than `max_images` images or more than `max_bytes` bytes; one
    image larger than `max_bytes` is a shard of its own. With little to do for `slots` parallel tasks the
    shards are smaller, so that all of them get some.

    Args:
        pending: The images to score: `image`, `bytes`, `modified_at`.
        max_images: Most images in a shard.
        max_bytes: Most bytes in a shard.
        slots: Number of tasks that run at once.

    Yields:
        Shards, numbered from 0.
    """
    sizes = pending.column("bytes").to_numpy()
    fair_share = int(np.maximum(sizes, _BYTES_PER_TILE).sum()) / (max(slots, 1) * _SHARDS_PER_SLOT)
    start, number = 0, 0
    while start < len(sizes):
        coming = sizes[start : start + max_images]
        costs = np.maximum(coming, _BYTES_PER_TILE)
        within_bytes = np.searchsorted(np.cumsum(coming), max_bytes, side="right")
        within_share = np.searchsorted(np.cumsum(costs), fair_share, side="right")
        stop = start + max(1, int(min(within_bytes, within_share)))
        yield Shard(number, tuple(listed_files(pending.slice(start, stop - start))))
        start, number = stop, number + 1


def listed_files(rows: pa.Table) -> Iterator[ListedFile]:
    """Convert rows of a listing, four times as fast as `to_pylist`."""
    microseconds = rows.column("modified_at").cast(pa.int64())
    times = (_EPOCH + timedelta(microseconds=since) for since in microseconds.to_pylist())
    return map(ListedFile, rows.column("image").to_pylist(), rows.column("bytes").to_pylist(), times)
