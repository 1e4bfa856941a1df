"""Models in an object store: found, checked and read like those in a folder, and not written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import fs

from crackmodel.errors import ModelCorrupt, ModelError, ModelNotFound
from crackmodel.models.card.card import card_from_json
from crackmodel.models.inference.loading import load_model
from crackmodel.models.registry.registry import PRETRAINED, Registry
from crackmodel.storage.object_stores import open_store
from tests.object_store import ObjectStore

Upload = Callable[[Path, str], str]


@pytest.fixture
def models(upload: Upload, tmp_path: Path) -> str:
    """Two versions of the model that ships, the first one in production."""
    local = Registry(tmp_path / "models")
    for _ in range(2):
        with local.staging("walls") as staged:
            card = card_from_json((PRETRAINED / "card.json").read_bytes())
            for name in ("model.tflite", "ood.npz"):
                shutil.copy(PRETRAINED / name, staged)
            local.publish("walls", staged, card)
    local.promote("walls", "v1")
    return upload(tmp_path / "models", "models")


def test_a_version_is_found_in_a_store_as_in_a_folder(models: str) -> None:
    registry = Registry(models)
    assert registry.names() == ["walls"]
    assert registry.versions("walls") == ["v1", "v2"]
    assert registry.aliases("walls") == {"production": "v1"}
    assert registry.resolve("walls").reference == "walls@v1"
    assert str(registry.resolve("walls@v2").path) == f"{models}/walls/v2"
    assert load_model("walls", models).version.sha256 == Registry("nowhere").resolve("builtin").sha256


def test_what_is_not_in_a_store_is_named(models: str) -> None:
    with pytest.raises(ModelNotFound, match=rf"no model 'decks' in {models}\. Take one of: builtin, walls"):
        Registry(models).resolve("decks")
    with pytest.raises(ModelNotFound, match="no version or alias 'v3'"):
        Registry(models).resolve("walls@v3")


def test_a_file_that_changed_in_a_store_is_noticed(models: str) -> None:
    store = open_store(f"{models}/walls/v1/model.tflite")
    with store.filesystem.open_output_stream(store.path) as stream:
        stream.write(b"something else")
    with pytest.raises(ModelCorrupt, match=r"walls/v1/model.tflite has SHA-256"):
        load_model("walls", models)
    store.filesystem.delete_file(store.path)
    with pytest.raises(ModelCorrupt, match=r"walls/v1/model.tflite cannot be read: there is no such file"):
        load_model("walls", models)


def test_nobody_trains_into_a_store_or_promotes_there(models: str) -> None:
    registry = Registry(models)
    with pytest.raises(ModelError, match="local folder with --models, then copy it"):
        registry.promote("walls", "v2")
    with pytest.raises(ModelError, match="local folder"), registry.staging("decks"):
        pass
    assert Registry(models).aliases("walls") == {"production": "v1"}


def test_a_store_that_refuses_is_explained(models: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY")
    with pytest.raises(ModelError, match=r"access was denied\. Check that the credentials"):
        Registry(models).resolve("walls")


def test_a_missing_alias_file_is_no_alias(object_store: ObjectStore, models: str) -> None:
    store = open_store(f"{models}/walls/aliases.json")
    store.filesystem.delete_file(store.path)
    assert isinstance(store.filesystem, fs.S3FileSystem)
    assert Registry(models).resolve("walls").version == "v2"
