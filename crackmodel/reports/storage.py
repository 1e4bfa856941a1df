"""Where a report lies: a local folder or an object store, through one pyarrow file system."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from crackmodel.errors import ReportError, ReportWriteFailed, UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """The root folder of a report.

    Attributes:
        uri: Absolute local path, or the object store's URI without a trailing slash; what Delta Lake opens.
        filesystem: The pyarrow file system that `root` belongs to.
        root: The report's folder inside `filesystem`.
        local: The folder as a path of this machine; None in an object store.
    """

    uri: str
    filesystem: fs.FileSystem
    root: str
    local: Path | None

    def inside(self, relative: str) -> str:
        """The path of something inside the report, for `filesystem`."""
        return f"{self.root}/{relative}"

    def exists(self, relative: str) -> bool:
        """Whether a file or folder of that path is in the report."""
        return bool(self.filesystem.get_file_info(self.inside(relative)).type != fs.FileType.NotFound)


def open_place(uri: str | Path) -> Place:
    """Resolve a report's address; touches nothing.

    Args:
        uri: A local path (`~` is expanded), or a `file://`, `s3://` or `gs://` URI.

    Raises:
        UsageError: The scheme is unknown or the URI is malformed.
        ReportError: The object store cannot be reached.
    """
    text = str(uri)
    if "://" not in text:
        return _local_place(Path(text))
    try:
        filesystem, root = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"The report's address {text!r} cannot be understood: {error}.",
            "Give a local path, or a URI that begins with s3:// or gs://.",
        ) from error
    except OSError as error:
        raise ReportError(
            f"The storage of {text!r} cannot be reached: {error}.",
            "Check the bucket's name, the network and the credentials in the environment.",
        ) from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return _local_place(Path(root))
    if not root.strip("/"):
        raise UsageError(
            f"The report's address {text!r} names no bucket.", "Give one like s3://bucket/folder/report."
        )
    return Place(text.rstrip("/"), filesystem, root.rstrip("/"), None)


def _local_place(path: Path) -> Place:
    folder = path.expanduser().absolute()
    return Place(str(folder), fs.LocalFileSystem(), folder.as_posix(), folder)


def write_failed(error: Exception, path: str) -> ReportWriteFailed:
    """Turn a storage error into one that says what to do, by what the storage complained of.

    Args:
        error: What pyarrow, the operating system or Delta Lake raised.
        path: What was being written.
    """
    code = getattr(error, "errno", None)
    text = str(error)
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota exceeded" in text:
        return ReportWriteFailed(
            f"The disk is full: {path} could not be written.",
            "Free some space and run again; shards that were committed stay and are not scored twice.",
        )
    if code == errno.EFBIG or "File too large" in text:
        return ReportWriteFailed(
            f"{path} grew beyond the largest file that is allowed here.",
            "Raise the limit (ulimit -f) and run again; shards that were committed stay.",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS) or "denied" in text.lower():
        return ReportWriteFailed(
            f"There is no permission to write {path}.",
            "Give this user write access to the report, or choose another place with --report.",
        )
    return ReportWriteFailed(
        f"{path} could not be written: {first_line(error)}.",
        "Check the storage and run again; shards that were committed stay and are not scored twice.",
    )


def first_line(error: Exception) -> str:
    """The first line of a message, without a full stop; the Rust libraries append a backtrace."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
