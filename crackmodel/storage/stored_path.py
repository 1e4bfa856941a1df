"""A folder of models in an object store, read the way `pathlib` reads a local one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyarrow import fs

from crackmodel.errors import ModelError
from crackmodel.storage.object_stores import advice, open_store


@dataclass(frozen=True, slots=True)
class StoredPath:
    """A path in an object store, with the few methods of `pathlib.Path` that reading models takes.

    Attributes:
        uri: The whole path as people write it.
        filesystem: Where it lies.
        path: The path inside it.
    """

    uri: str
    filesystem: fs.FileSystem
    path: str

    def __truediv__(self, name: str) -> StoredPath:
        """Go one level, or several, down."""
        return StoredPath(f"{self.uri}/{name}", self.filesystem, f"{self.path}/{name}")

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.path).name

    def is_dir(self) -> bool:
        """Whether anything lies below it.

        Raises:
            ModelError: The store does not say.
        """
        try:
            return bool(self.filesystem.get_file_info(self.path).type == fs.FileType.Directory)
        except OSError as fault:
            raise self.unreadable(fault) from None

    def iterdir(self) -> Iterator[StoredPath]:
        """Name the folders in it; the files are read by their names.

        Raises:
            ModelError: The store does not say.
        """
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        except OSError as fault:
            raise self.unreadable(fault) from None
        for info in found:
            if info.type == fs.FileType.Directory:
                yield self / info.base_name

    def read_bytes(self) -> bytes:
        """Read the object.

        Raises:
            FileNotFoundError: There is none.
            ModelError: The store does not give it away.
        """
        try:
            with self.filesystem.open_input_file(self.path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            raise FileNotFoundError(2, "there is no such object", self.uri) from None
        except OSError as fault:
            raise self.unreadable(fault) from None

    def unreadable(self, fault: OSError) -> ModelError:
        """Turn a store's complaint into words."""
        why, what_to_do = advice(fault) or (
            " ".join(str(fault).split()),
            "Check the bucket's name, the credentials and the network: see docs/storage.md.",
        )
        return ModelError(f"The models in {self.uri} cannot be read: {why}.", what_to_do)


def models_folder(root: Path | str) -> Path | StoredPath:
    """Open the folder of a registry.

    Args:
        root: Local path (`~` is expanded), or URI as `crackmodel.storage.object_stores.open_store` takes.

    Raises:
        UsageError: The URI is malformed.
        ModelError: The store cannot be reached.
    """
    text = str(root)
    if "://" not in text:
        return Path(text).expanduser()
    try:
        store = open_store(text)
    except OSError as fault:
        raise StoredPath(text, None, "").unreadable(fault) from None
    return StoredPath(store.delta_uri, store.filesystem, store.path)
