"""The worker: groups of files in order."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from crackmodel.scoring.shards import ListedFile
from crackmodel.scoring.worker import _group_by_bytes


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60))
def test_groups_hold_every_file_once_and_close_at_about_a_megabyte(sizes: list[int]) -> None:
    now = datetime.now(UTC)
    files = [ListedFile(f"{number}.jpg", size, now) for number, size in enumerate(sizes)]
    groups = list(_group_by_bytes(files))

    assert [file for group in groups for file in group] == files
    assert all(sum(file.bytes for file in group[:-1]) < 2**20 for group in groups)
