"""The registry of model versions: immutable folders and aliases.

    MODELS/<name>/v1/card.json  model.keras  model.tflite  evaluation/
    MODELS/<name>/aliases.json              {"production": "v1"}

A version is written into a hidden folder, flushed to disk and renamed: it is there entirely or not at
all, and never changes again. What is read is compared with the hashes in the card first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from crackmodel.errors import ModelCorrupt, ModelError, ModelNotFound, UsageError
from crackmodel.models.card.card import Card, FileRecord, card_to_json
from crackmodel.models.registry.versions import CARD, ModelVersion, open_version
from crackmodel.storage.advice import raised_as
from crackmodel.storage.files import lock, replacing, sync
from crackmodel.storage.location import Location

BUILTIN: Final = "builtin"
PRETRAINED: Final = Path(__file__).resolve().parents[2] / "pretrained"
"""The folder of the model that ships."""

PRODUCTION: Final = "production"
_ALIASES: Final = "aliases.json"
_LOCK: Final = ".lock"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")


class Registry:
    """The model versions below a folder, and the one that ships.

    In an object store versions can be read, and neither published nor promoted.

    Args:
        root: The folder, or its URI in an object store; it need not exist until something is published.

    Raises:
        UsageError: The URI is malformed.
    """

    def __init__(self, root: Path | str | Location) -> None:
        location = Location.parse(root)
        self.root: Path | Location = location.local or location

    def local_root(self) -> Path:
        """Return the folder, for those who write into it.

        Raises:
            ModelError: It is in an object store, where nothing is renamed in one step.
        """
        if isinstance(self.root, Path):
            return self.root
        raise ModelError(
            f"Models cannot be trained into, or promoted in, the object store {self.root}.",
            "Give a local folder with --models, then copy it: "
            f"aws s3 cp --recursive models {self.root}, or what your cloud has for that.",
        )

    def names(self) -> list[str]:
        """List the models in the folder, sorted, without `builtin`."""
        return sorted(_folders(self.root, _NAME))

    def versions(self, name: str) -> list[str]:
        """List a model's versions, oldest first; empty for an unknown model."""
        found = _folders(self.root / _valid(name), _VERSION)
        return sorted(found, key=lambda version: int(version[1:]))

    def aliases(self, name: str) -> dict[str, str]:
        """Read a model's aliases: alias to version.

        Raises:
            ModelCorrupt: `aliases.json` is not what was written.
        """
        path = self.root / _valid(name) / _ALIASES
        try:
            with raised_as(ModelError, f"{path} cannot be read"):
                try:
                    loaded = json.loads(path.read_bytes())
                except FileNotFoundError:
                    return {}
        except ValueError as fault:
            raise ModelCorrupt(f"{path} cannot be read: {fault}.", _PROMOTE_AGAIN) from fault
        if not isinstance(loaded, dict) or not all(
            isinstance(version, str) and _VERSION.fullmatch(version) for version in loaded.values()
        ):
            raise ModelCorrupt(f"{path} does not map aliases to versions.", _PROMOTE_AGAIN)
        return loaded

    def resolve(self, reference: str) -> ModelVersion:
        """Find a model version.

        Args:
            reference: `builtin`; `NAME`: its `production` version, or the newest without that alias;
                `NAME@VERSION` or `NAME@ALIAS`.

        Raises:
            UsageError: Not a reference.
            ModelNotFound: No such model, version or alias; the message lists what there is.
            ModelCorrupt: The version's card cannot be read.
        """
        name, at, wanted = reference.partition("@")
        _valid(name)
        if at:
            _valid(wanted)
        if name == BUILTIN:
            return self._builtin(wanted)
        versions = self.versions(name)
        if not versions:
            known = ", ".join([BUILTIN, *self.names()])
            raise ModelNotFound(
                f"There is no model {name!r} in {self.root}.", f"Take one of: {known}; or train it."
            )
        aliases = self.aliases(name)
        version = aliases.get(wanted, wanted) if at else aliases.get(PRODUCTION, versions[-1])
        if version not in versions:
            known = ", ".join([*versions, *sorted(aliases)])
            raise ModelNotFound(
                f"The model {name!r} in {self.root} has no version or alias {wanted or version!r}.",
                f"Take one of: {known}.",
            )
        return open_version(name, version, self.root / name / version)

    def _builtin(self, wanted: str) -> ModelVersion:
        model = open_version(BUILTIN, None, PRETRAINED)
        if wanted and wanted != model.version:
            raise ModelNotFound(
                f"The model that ships is {model.reference}, not {BUILTIN}@{wanted}.", f"Take {BUILTIN}."
            )
        return model

    def promote(self, name: str, version: str, alias: str = PRODUCTION) -> None:
        """Point an alias at a version, atomically.

        Raises:
            UsageError: The name or alias is not one, or the alias looks like a version.
            ModelNotFound: No such version.
            ModelError: The registry is in an object store.
        """
        if _VERSION.fullmatch(_valid(alias)):
            raise UsageError(f"{alias!r} is a version, not an alias.", "Take a word, such as production.")
        if name == BUILTIN:
            raise UsageError("The model that ships has no aliases.", "Promote a model that you trained.")
        root = self.local_root()
        self.resolve(f"{name}@{version}")
        folder = root / name
        with lock(folder / _LOCK):
            aliases = {**self.aliases(name), alias: version}
            with replacing(folder / _ALIASES) as unfinished:
                unfinished.write_text(json.dumps(aliases, indent=2, sort_keys=True) + "\n")

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Lend an empty hidden folder, to be filled and published.

        It is removed at the end where it was not published.

        Raises:
            UsageError: Not a name for a model.
            ModelError: The folder cannot be made.
        """
        folder = self.local_root() / _publishable(name)
        staged = folder / f".staging-{uuid.uuid4().hex}"
        try:
            staged.mkdir(parents=True)
        except OSError as fault:
            raise ModelError(
                f"The model folder {folder} cannot be written: {fault.strerror}.",
                "Choose another one with --models or CRACKMODEL_MODELS.",
            ) from fault
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            for made in (folder, self.local_root()):
                with contextlib.suppress(OSError):  # not empty: there are versions
                    made.rmdir()

    def publish(self, name: str, staging_dir: Path, card: Card) -> ModelVersion:
        """Turn a staged folder into the model's next version.

        Args:
            name: The model.
            staging_dir: From `staging`, with everything in it but the card.
            card: Its `name`, `version` and `files` are filled in here.

        Returns:
            The version as it now lies on disk. Two who publish at once get two versions.

        Raises:
            UsageError: Not a name for a model.
            ModelError: The registry is in an object store.
        """
        folder = self.local_root() / _publishable(name)
        files = _hash_files(staging_dir)
        with lock(folder / _LOCK):
            newest = self.versions(name)
            version = f"v{int(newest[-1][1:]) + 1 if newest else 1}"
            finished = dataclasses.replace(card, name=name, version=version, files=files)
            (staging_dir / CARD).write_text(card_to_json(finished))
            for path in [*staging_dir.rglob("*"), staging_dir]:
                sync(path)
            staging_dir.rename(folder / version)
            sync(folder)
        return ModelVersion(name, version, folder / version, finished)


def _folders(root: Path | Location, pattern: re.Pattern[str]) -> list[str]:
    with raised_as(ModelError, f"The models in {root} cannot be read"):
        if not root.is_dir():
            return []
        return [entry.name for entry in root.iterdir() if pattern.fullmatch(entry.name) and entry.is_dir()]


def _valid(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} does not name a model, version or alias.",
            "Names are letters, digits, dots, dashes and underscores and start with a letter or digit; "
            "a model is referred to by NAME, NAME@VERSION or NAME@ALIAS.",
        )
    return name


def _publishable(name: str) -> str:
    if name == BUILTIN:
        raise UsageError(f"{BUILTIN!r} is the name of the model that ships.", "Choose another --name.")
    return _valid(name)


_PROMOTE_AGAIN: Final = "Remove the file and promote a version again."


def _hash_files(folder: Path) -> dict[str, FileRecord]:
    records = {}
    for path in sorted(folder.rglob("*")):
        # Hidden files are left by others, such as network shares for a file that was removed while in use.
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            content = path.read_bytes()
            records[path.relative_to(folder).as_posix()] = FileRecord(
                hashlib.sha256(content).hexdigest(), len(content)
            )
    return records
