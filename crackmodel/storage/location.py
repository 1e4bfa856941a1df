"""A local path or an object store's URI, parsed once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from crackmodel.errors import UsageError
from crackmodel.storage.files import replacing
from crackmodel.storage.object_stores import Store, check_uri, open_store
from crackmodel.text import printable

_WRITTEN: Final = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})
"""How a name is written in a URI, where these characters mean something else."""


@dataclass(frozen=True)
class Location:
    """A folder or file, local or in an object store; make one with `parse`.

    It means the same in every working directory and holds no keys, so it may be shown, and sent to another
    machine. Nothing is opened before something of the store is asked for: then `filesystem` and all that
    needs it raise OSError where the store cannot be reached.

    Attributes:
        uri: Absolute local path, or URI with its options, without a slash at the end of its path.
        local: The local path; None in an object store.
        store: The opened store, where the caller has it; opened on demand otherwise.
    """

    uri: str
    local: Path | None = None
    store: Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, place: str | Path | Location) -> Location:
        """Parse a path or URI; touches no network, and the disk only for a `..` in a path.

        Args:
            place: A local path, where `~` is expanded and links keep their own name, since it may be the
                survey's; a `file://` URI; or what `object_stores.open_store` takes.

        Raises:
            UsageError: The URI is malformed, holds keys or unknown options, or is not UTF-8.
        """
        if isinstance(place, Location):
            return place
        text = str(place)
        try:
            urlsplit(text if "://" in text else "")
        except ValueError as error:
            raise UsageError(
                f"{printable(text)} is not a valid URI: {error}.", "Check its spelling."
            ) from None
        if "://" in text and not text.startswith("file://"):
            _require_utf8(text)
            check_uri(text)
            bare, mark, options = text.partition("?")
            return cls(bare.rstrip("/") + mark + options)
        if "://" in text:
            parts = urlsplit(text)
            if parts.netloc not in ("", "localhost") or not parts.path or parts.query or parts.fragment:
                raise UsageError(
                    f"file://{printable(parts.path)} is not a valid URI of a local path.",
                    "Write it as file:///FOLDER, with %3F for ? and %23 for #, or give the path itself.",
                )
            text = unquote(parts.path)
        # Not pathlib's: resolve() would follow links, and expanduser() fails for an unknown user.
        path = os.path.abspath(_without_parents(os.path.expanduser(text)))  # noqa: PTH100, PTH111
        _require_utf8(path)
        return cls(path, Path(path))

    @cached_property
    def _opened(self) -> Store:
        if self.store is not None:
            return self.store
        if self.local is not None:
            return Store(fs.LocalFileSystem(), self.local.as_posix(), self.uri)
        return open_store(self.uri)

    def __reduce__(self) -> tuple[type[Location], tuple[str, Path | None]]:
        return Location, (self.uri, self.local)  # each process opens the store for itself

    def __str__(self) -> str:
        return self.uri

    @property
    def filesystem(self) -> fs.FileSystem:
        """The pyarrow file system that `root` belongs to."""
        return self._opened.filesystem

    @property
    def root(self) -> str:
        """The path inside `filesystem`."""
        return self._opened.path

    @property
    def delta_uri(self) -> str:
        """What Delta Lake opens."""
        return self._opened.delta_uri

    @property
    def delta_options(self) -> dict[str, str]:
        """The storage options that Delta Lake needs to get there."""
        return self._opened.delta_options

    @property
    def path(self) -> str:
        """The path as its storage knows it, bucket or container first; opens nothing."""
        if self.local is not None:
            return str(self.local)
        parts = urlsplit(self.uri)
        bucket = parts.netloc.removeprefix("anonymous@").partition("@")[0]  # Azure's account stands behind
        return bucket + unquote(parts.path)

    @property
    def name(self) -> str:
        """The last part of the path; empty for the root of a disk."""
        return self.path.rpartition("/")[2]

    @property
    def scheme(self) -> str:
        """The URI's scheme; empty for a local path."""
        return "" if self.local is not None else self.uri.partition("://")[0]

    @property
    def real_path(self) -> str:
        """The path free of symbolic links."""
        return self.path if self.local is None else os.path.realpath(self.local)

    def __truediv__(self, name: str) -> Location:
        """Name what lies below."""
        if self.local is not None:
            below = self.local / name
            return Location(str(below), below)
        opened, written = self.store or self.__dict__.get("_opened"), name.translate(_WRITTEN)
        if opened is not None:
            opened = replace(opened, path=f"{opened.path}/{name}", delta_uri=f"{opened.delta_uri}/{written}")
        return Location(self._below(written), store=opened)

    def resolve(self, reference: str) -> Location:
        """Resolve an address that may be relative to this one.

        Args:
            reference: A path or URI; where it is relative, written as this location's own is. The options of
                a URI hold for what is relative to it and has none of its own.

        Raises:
            UsageError: As `parse`.
        """
        if "://" in reference or reference.startswith(("/", "~")):
            return Location.parse(reference)
        if self.local is not None:
            return Location.parse(self.local / reference)
        return Location.parse(self._below("" if reference == "." else reference.removesuffix("/.")))

    def _below(self, written: str) -> str:
        place, mark, options = self.uri.partition("?")
        below = f"{place}/{written}"
        return below if "?" in written else below.rstrip("/") + mark + options

    def inside(self, relative: str) -> str:
        """Name something below, for `filesystem`."""
        return f"{self.root}/{relative}"

    def exists(self, relative: str = "") -> bool:
        """Whether there is such a file or folder, here or below."""
        path = self.inside(relative) if relative else self.root
        return bool(self.filesystem.get_file_info(path).type != fs.FileType.NotFound)

    def is_dir(self) -> bool:
        """Whether it is a folder; in an object store, whether anything lies below it."""
        return bool(self.filesystem.get_file_info(self.root).type == fs.FileType.Directory)

    def iterdir(self) -> Iterator[Location]:
        """Yield what lies in the folder; nothing if there is none."""
        for info in self.filesystem.get_file_info(fs.FileSelector(self.root, allow_not_found=True)):
            yield self / info.base_name

    def read_bytes(self) -> bytes:
        """Read the file.

        Raises:
            FileNotFoundError: There is none.
            OSError: It cannot be read.
        """
        try:
            with self.filesystem.open_input_file(self.root) as file:
                return bytes(file.read())
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", self.uri) from None

    def write_bytes(self, content: bytes) -> None:
        """Write the file, all of it or nothing."""
        if self.local is not None:
            with replacing(self.local) as unfinished:
                unfinished.write_bytes(content)
        else:
            with self.filesystem.open_output_stream(self.root) as stream:  # appears when it is closed
                stream.write(content)


def _without_parents(path: str) -> str:
    """Resolve the part of a path up to its last `..`: behind a link only the disk knows what that means."""
    parts = Path(path).parts
    if ".." not in parts:
        return path
    last = len(parts) - parts[::-1].index("..")
    return str(Path(os.path.realpath(Path(*parts[:last])), *parts[last:]))


def _require_utf8(text: str) -> None:
    """Refuse undecodable bytes of a file name, which come as lone surrogates."""
    if text.encode(errors="replace").decode() != text:
        raise UsageError(
            f"The path {printable(text)} is not UTF-8, so neither a report nor a job could name it.",
            "Rename the folder, or give a link to it that has a plain name.",
        )
