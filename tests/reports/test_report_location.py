"""Where a report may lie, and what a storage that does not take it means."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from crackmodel.errors import UsageError
from crackmodel.reports.report_location import locate_report, write_failed
from crackmodel.reports.table import ReportTable


def test_object_store_uri_stays_and_is_not_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = locate_report("s3://bucket/night/report/?region=eu-central-1")
    assert place.local is None
    assert place.inside("survey=a") == "bucket/night/report/survey=a"


@pytest.mark.parametrize(
    ("error", "problem", "remedy"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full", "Free some space"),
        (
            OSError("[Errno 28] Error writing. Detail: [errno 28] No space left on device"),
            "disk is full",
            "run again",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk is full", "Free some space"),
        (OSError(errno.EFBIG, "File too large"), "largest file", "ulimit -f"),
        (PermissionError(errno.EACCES, "Permission denied"), "no permission", "write access"),
        (OSError(errno.EROFS, "Read-only file system"), "no permission", "write access"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", "Check the storage"),
    ],
)
def test_each_storage_fault_has_its_own_remedy(error: OSError, problem: str, remedy: str) -> None:
    failed = write_failed(error, "/mnt/report")
    assert problem in failed.problem
    assert "/mnt/report" in failed.problem
    assert remedy in failed.remedy


@pytest.mark.parametrize("name", ["100% r\xe4port #1?", "it's", "50%", "a+b [c]{d}", "a:b", "%2", "%zz"])
def test_a_report_may_have_any_name_that_delta_lake_can_read(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        ReportTable.open_or_create(tmp_path / name)
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a%20b", "feature%2Fwalls/report", "a%25b", "a\\b", "a\nb"])
def test_a_name_that_delta_lake_takes_for_another_is_refused_and_nothing_made(
    name: str, tmp_path: Path
) -> None:
    for address in (tmp_path / name, (tmp_path / name).as_uri()):
        with pytest.raises(UsageError, match="Delta Lake misreads"):
            ReportTable.open_or_create(address)
    assert not list(tmp_path.iterdir())


def test_a_link_to_such_a_name_is_refused_as_well(tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "report").symlink_to("a%20b")
    with pytest.raises(UsageError, match="misreads '%20'"):
        ReportTable.open_or_create(tmp_path / "report")


def test_a_percent_sign_of_a_uri_is_no_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert locate_report("s3://bucket/night%20report").root == "bucket/night report"
    with pytest.raises(UsageError, match="Delta Lake misreads '%20'"):
        locate_report("s3://bucket/night%2520report")
