"""Files that a killed run left in a report without committing them.

On a disk, whoever holds the survey's lock knows that they belong to no other run. In an object store the log
decides: once a run has raised a survey's number, no run that began before can commit anything any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from deltalake.exceptions import CommitFailedError, DeltaError
from pyarrow import fs

from crackmodel.reports.reading.dataset import committed_files, named_files
from crackmodel.reports.report_location import writing
from crackmodel.reports.schema import partition_folder
from crackmodel.reports.table import ReportTable
from crackmodel.reports.writing.fencing import Fence, commit_actions
from crackmodel.reports.writing.shard_file import is_shard_name
from crackmodel.storage.location import Location

_ORPHAN_AGE_WITHOUT_LOCK: Final = timedelta(days=1)
"""From this age on, a hidden file in an object store belongs to no run that is going on."""


def delete_orphans(table: ReportTable, survey: str) -> int:
    """Delete and count a survey's orphan files.

    Files that a compaction replaced are in the log and stay until vacuum, and files of other programs are
    not touched. The caller holds the survey's lock; in an object store, where there is none, only files older
    than a day go: see `sweep`.

    Raises:
        ReportWriteFailed: A file cannot be deleted.
    """
    table.refresh()
    files = [info.base_name for info in _shards(table.place, survey) if _may_be_orphan(info, table.place)]
    if not files:
        return 0
    return _delete(table.place, survey, set(files) - named_files(table.log, survey))


def sweep(table: ReportTable, survey: str, run_id: str) -> int:
    """Delete and count the files in an object store that can never be committed.

    A run's last step: no run that began before can commit after it. Where another has committed since this
    object's `begin`, or commits now, nothing is deleted.

    The order makes it safe. Whoever published a file that is listed here had remembered the number of the
    survey, or of its compactions, before. The commit raises both, or fails because somebody else did. After
    it, a file that the log still does not name cannot be committed.

    Raises:
        ReportWriteFailed: The storage failed.
    """
    if table.place.local is not None:
        return 0
    log, place, fence = table.log, table.place, table.fence
    with writing(f"the removal of orphans of {survey} in {table.uri}", DeltaError):
        listed = {info.base_name for info in _shards(place, survey) if not info.base_name.startswith(".")}
        log.update_incremental()
        listed -= {file.name for file in committed_files(log, survey)}
        if not listed or not listed - named_files(log, survey):  # the latter lists the bucket
            return 0
        compactions = Fence(log, place, of="compaction")
        compactions.remember(survey)
        if not fence.knows(survey) or fence.is_raised(survey):
            return 0
        try:
            commit_actions(
                log,
                [],
                [*fence.transactions([survey]), *compactions.transactions([survey])],
                {"run_id": run_id, "survey": survey, "files": 0, "rows": 0},
            )
        except CommitFailedError:  # another run is going on, and sweeps at its end
            return 0
        fence.note_commit([survey])
        log.update_incremental()
        return _delete(place, survey, listed - named_files(log, survey))


def _shards(place: Location, survey: str) -> list[fs.FileInfo]:
    folder = fs.FileSelector(place.inside(partition_folder(survey)), allow_not_found=True)
    with writing(folder.base_dir):
        found = place.filesystem.get_file_info(folder)
    return [info for info in found if info.type == fs.FileType.File and is_shard_name(info.base_name)]


def _delete(place: Location, survey: str, orphans: Collection[str]) -> int:
    for name in orphans:
        path = place.inside(f"{partition_folder(survey)}/{name}")
        with writing(path), contextlib.suppress(FileNotFoundError):
            place.filesystem.delete_file(path)
    return len(orphans)


def _may_be_orphan(info: fs.FileInfo, place: Location) -> bool:
    local = place.local is not None
    return local or info.mtime is None or bool(datetime.now(UTC) - info.mtime > _ORPHAN_AGE_WITHOUT_LOCK)
