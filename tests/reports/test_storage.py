from __future__ import annotations

import errno
from pathlib import Path

import pytest

from crackmodel.errors import UsageError
from crackmodel.reports.storage import first_line, open_place, write_failed


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_place("report").uri == str(tmp_path / "report")


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_place("~/report").local == tmp_path / "report"


def test_file_uri_is_a_local_path(tmp_path: Path) -> None:
    place = open_place((tmp_path / "re port").as_uri())
    assert place.uri == str(tmp_path / "re port")
    assert place.local == tmp_path / "re port"


def test_object_store_uri_stays_and_is_not_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = open_place("s3://bucket/night/report/?region=eu-central-1")
    assert place.local is None
    assert place.inside("survey=a") == "bucket/night/report/survey=a"


@pytest.mark.parametrize("uri", ["ftp://host/report", "nonsense://x", "s3://"])
def test_unknown_address_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError, match="s3://"):
        open_place(uri)


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


def test_only_the_first_line_of_a_message_is_shown() -> None:
    assert first_line(OSError("Json error.\n   0: <unknown>\n   1: <unknown>")) == "Json error"
    assert first_line(ValueError()) == "ValueError"
