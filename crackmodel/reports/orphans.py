"""The files that a dead run wrote into a report and nobody committed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from deltalake import DeltaTable
from pyarrow import fs

from crackmodel.reports.schema import partition_folder
from crackmodel.reports.snapshot import named_files
from crackmodel.reports.storage import Place, write_failed
from crackmodel.reports.writer import is_shard_name

ORPHAN_AGE_WITHOUT_LOCK: Final = timedelta(days=1)
"""In an object store nothing says that a survey's files belong to no living run, but age does."""


def delete_orphans(table: DeltaTable, place: Place, survey: str) -> int:
    """Delete a survey's orphans and count them; see `ReportTable.remove_orphans`."""
    folder = fs.FileSelector(place.inside(partition_folder(survey)), allow_not_found=True)
    try:
        found = place.filesystem.get_file_info(folder)
    except OSError as error:
        raise write_failed(error, folder.base_dir) from error
    files = [info for info in found if _may_be_orphan(info, place)]
    if not files:
        return 0
    named = named_files(table, survey)
    orphans = [info.path for info in files if info.base_name not in named]
    for path in orphans:
        try:
            place.filesystem.delete_file(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise write_failed(error, path) from error
    return len(orphans)


def _may_be_orphan(info: fs.FileInfo, place: Place) -> bool:
    if info.type != fs.FileType.File or not is_shard_name(info.base_name):
        return False
    if place.local is not None:
        return True
    return bool(info.mtime is None or datetime.now(UTC) - info.mtime > ORPHAN_AGE_WITHOUT_LOCK)
