"""What fine-tuning is fed from: the same as without threads and files, only earlier."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from crackmodel.errors import ModelError
from crackmodel.models.datasets.labelled import find_images, read_tiles
from crackmodel.models.training import tile_batches
from crackmodel.models.training.tile_batches import in_batches, map_tiles, prefetched


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_everything_comes_once_and_in_order(ahead: int) -> None:
    assert list(prefetched(lambda job: job * job, range(20), ahead)) == [job * job for job in range(20)]
    assert list(prefetched(lambda job: job, [], ahead)) == []


def test_next_things_are_made_while_the_caller_works_on_one() -> None:
    made = [threading.Event() for _ in range(4)]
    things = prefetched(lambda job: made[job].set(), range(4), 2)

    next(things)

    assert made[1].wait(30)
    assert made[2].wait(30)
    assert not made[3].is_set(), "no more than two ahead: batches are large"
    things.close()


def test_fault_in_a_thread_reaches_the_caller_in_its_turn() -> None:
    things = prefetched(lambda job: 1 // (job - 2), range(4), 2)

    assert [next(things), next(things)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(things)


def test_caller_that_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    things = prefetched(lambda job: job, range(1000), 3)
    next(things)

    things.close()

    assert threading.active_count() == before


def test_batches_hold_every_row_once() -> None:
    assert [batch.tolist() for batch in in_batches(np.arange(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_mapped_tiles_are_the_tiles(
    drawn_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_batches, "_CHUNK", 7)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [str(drawn_dataset / file) for file in find_images(drawn_dataset).files[:20]]
    files.insert(9, str(tmp_path / "broken.png"))

    mapped = map_tiles(Path("/"), files, tmp_path / "tiles.npy")

    read = read_tiles(Path("/"), files)
    assert isinstance(mapped.tiles, np.memmap)
    np.testing.assert_array_equal(mapped.tiles, read.tiles)
    np.testing.assert_array_equal(mapped.kept, read.kept)
    assert (mapped.sha256, mapped.bad) == (read.sha256, read.bad)
    np.testing.assert_array_equal(np.load(tmp_path / "tiles.npy"), read.tiles)


def test_place_that_takes_no_tiles_is_named(drawn_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiles of .*nowhere.*--models"):
        map_tiles(drawn_dataset, find_images(drawn_dataset).files, tmp_path / "nowhere" / "tiles.npy")


def test_tiles_that_are_in_the_file_are_not_in_memory(
    drawn_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_batches, "_CHUNK", 4)
    images = find_images(drawn_dataset)
    tracemalloc.start()

    tiles = map_tiles(images.root, images.files, tmp_path / "tiles.npy").tiles

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < tiles.nbytes / 3
