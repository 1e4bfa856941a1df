"""The files that a dead run wrote into a report and nobody committed.

On a disk the survey's lock says that they belong to no living run. In an object store nothing does, but what
the log will refuse is known: once a run has moved a survey's number, nobody who had asked for it before can
commit what is published by then.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow import fs

from crackmodel.reports.reading.dataset import committed_files, named_files
from crackmodel.reports.schema import partition_folder
from crackmodel.reports.writing.fencing import Fence, commit_actions
from crackmodel.reports.writing.shard_file import is_shard_name
from crackmodel.storage.location import Place, write_failed

ORPHAN_AGE_WITHOUT_LOCK: Final = timedelta(days=1)
"""In an object store nothing says that a survey's hidden files belong to no living run, but age does."""


def delete_orphans(table: DeltaTable, place: Place, survey: str) -> int:
    """Delete a survey's orphans and count them; see `ReportTable.remove_orphans`."""
    files = [info.base_name for info in _shards(place, survey) if _may_be_orphan(info, place)]
    if not files:
        return 0
    return _delete(place, survey, set(files) - named_files(table, survey))


def sweep(table: DeltaTable, place: Place, fence: Fence, survey: str, run_id: str) -> int:
    """Delete what can never be committed, and count it; see `ReportTable.sweep`.

    The order is what makes it safe. Whoever published a file that is listed here had asked for the survey's
    number before, or for that of its compactions. The commit moves both, unless somebody else does; then what
    the log still does not name is nobody's.
    """
    listed = {info.base_name for info in _shards(place, survey) if not info.base_name.startswith(".")}
    table.update_incremental()
    listed -= {file.name for file in committed_files(table, survey)}
    if not listed or not listed - named_files(table, survey):  # the latter lists the bucket
        return 0
    compactions = Fence(table, place, of="compaction")
    compactions.remember(survey)
    if not fence.knows(survey) or fence.is_raised(survey):
        return 0
    try:
        commit_actions(
            table,
            [],
            [*fence.raises([survey]), *compactions.raises([survey])],
            {"run_id": run_id, "survey": survey, "files": 0, "rows": 0},
        )
    except CommitFailedError:  # somebody is at work on this survey, and sweeps at its end
        return 0
    fence.raised([survey])
    table.update_incremental()
    return _delete(place, survey, listed - named_files(table, survey))


def _shards(place: Place, survey: str) -> list[fs.FileInfo]:
    folder = fs.FileSelector(place.inside(partition_folder(survey)), allow_not_found=True)
    try:
        found = place.filesystem.get_file_info(folder)
    except OSError as error:
        raise write_failed(error, folder.base_dir) from error
    return [info for info in found if info.type == fs.FileType.File and is_shard_name(info.base_name)]


def _delete(place: Place, survey: str, orphans: Collection[str]) -> int:
    for name in orphans:
        path = place.inside(f"{partition_folder(survey)}/{name}")
        try:
            place.filesystem.delete_file(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise write_failed(error, path) from error
    return len(orphans)


def _may_be_orphan(info: fs.FileInfo, place: Place) -> bool:
    if place.local is not None:
        return True
    return bool(info.mtime is None or datetime.now(UTC) - info.mtime > ORPHAN_AGE_WITHOUT_LOCK)
