from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crackmodel.errors import ModelCorrupt, ModelError, ModelNotFound, UsageError
from crackmodel.models.card.card import Card, card_from_json
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion

Publish = Callable[..., ModelVersion]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def publish(registry: Registry, card: Card) -> Publish:
    """Publish a version with a small file in the model's place."""

    def run(name: str = "walls", content: bytes = b"weights") -> ModelVersion:
        with registry.staging(name) as staged:
            (staged / "model.tflite").write_bytes(content)
            (staged / "evaluation").mkdir()
            (staged / "evaluation" / "roc.png").write_bytes(b"a picture")
            return registry.publish(name, staged, card)

    return run


def test_published_version_is_found_again(registry: Registry, publish: Publish) -> None:
    published = publish()

    found = registry.resolve("walls@v1")

    assert found == published
    assert found.reference == "walls@v1"
    assert found.read_file("model.tflite") == b"weights"
    assert found.read_file("evaluation/roc.png") == b"a picture"
    assert (found.threshold, found.temperature) == (0.45, 1.25)
    assert found.sha256 == found.card.files["model.tflite"].sha256
    found.verify()


def test_card_on_disk_names_its_version_and_files(publish: Publish) -> None:
    published = publish()

    card = card_from_json((published.path / "card.json").read_bytes())

    assert (card.name, card.version) == ("walls", "v1")
    assert set(card.files) == {"model.tflite", "evaluation/roc.png"}


def test_name_alone_is_the_newest_version_until_one_is_promoted(registry: Registry, publish: Publish) -> None:
    publish(content=b"one")
    publish(content=b"two")
    assert registry.resolve("walls").version == "v2"

    registry.promote("walls", "v1")

    assert registry.resolve("walls").version == "v1"
    assert registry.resolve("walls@production").version == "v1"
    assert registry.resolve("walls@v2").read_file("model.tflite") == b"two"


def test_tenth_version_follows_the_ninth(registry: Registry, publish: Publish) -> None:
    for _ in range(10):
        publish()

    assert registry.versions("walls")[-2:] == ["v9", "v10"]
    assert registry.resolve("walls").version == "v10"


def test_alias_moves_and_others_stay(registry: Registry, publish: Publish) -> None:
    publish()
    publish()
    registry.promote("walls", "v1")
    registry.promote("walls", "v1", alias="night")

    registry.promote("walls", "v2")

    assert registry.aliases("walls") == {"night": "v1", "production": "v2"}
    assert registry.resolve("walls@night").version == "v1"


def test_promotions_at_once_are_all_kept(registry: Registry, publish: Publish) -> None:
    publish()
    aliases = [f"site-{number}" for number in range(12)]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda alias: registry.promote("walls", "v1", alias), aliases))

    assert sorted(registry.aliases("walls")) == sorted(aliases)


def test_publishers_at_once_get_a_version_each(registry: Registry, publish: Publish) -> None:
    with ThreadPoolExecutor(6) as pool:
        published = list(pool.map(lambda number: publish(content=b"%d" % number), range(12)))

    assert sorted(version.version for version in published) == sorted(f"v{number}" for number in range(1, 13))
    assert len({version.read_file("model.tflite") for version in published}) == 12


def test_published_version_is_not_touched_by_the_next(registry: Registry, publish: Publish) -> None:
    first = publish(content=b"one")
    before = (first.path / "card.json").read_bytes()

    publish(content=b"two")

    assert (first.path / "card.json").read_bytes() == before
    assert registry.resolve("walls@v1").read_file("model.tflite") == b"one"


def test_unfinished_version_is_invisible_and_removed(registry: Registry, publish: Publish) -> None:
    publish()

    def fail_half_way() -> None:
        with registry.staging("walls") as staged:
            (staged / "model.tflite").write_bytes(b"half")
            assert registry.versions("walls") == ["v1"]
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power"):
        fail_half_way()

    assert sorted(path.name for path in (registry.root / "walls").iterdir()) == [".lock", "v1"]
    assert registry.resolve("walls").version == "v1"


def test_flipped_byte_is_found(registry: Registry, publish: Publish) -> None:
    path = publish().path / "model.tflite"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    version = registry.resolve("walls")

    with pytest.raises(ModelCorrupt, match=r"model\.tflite has SHA-256"):
        version.read_file("model.tflite")
    with pytest.raises(ModelCorrupt):
        version.verify()


def test_missing_file_is_found(registry: Registry, publish: Publish) -> None:
    (publish().path / "model.tflite").unlink()

    with pytest.raises(ModelCorrupt, match="cannot be read"):
        registry.resolve("walls").read_file("model.tflite")


def test_file_that_was_never_there_is_not_corrupt_but_not_found(publish: Publish) -> None:
    version = publish()

    assert not version.has_file("model.keras")
    with pytest.raises(ModelNotFound, match=r"it has evaluation/roc\.png, model\.tflite"):
        version.read_file("model.keras")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff"])
def test_broken_card_is_corrupt(registry: Registry, publish: Publish, content: bytes) -> None:
    (publish().path / "card.json").write_bytes(content)

    with pytest.raises(ModelCorrupt, match=r"card\.json"):
        registry.resolve("walls")


def test_version_without_a_card_is_corrupt(registry: Registry, publish: Publish) -> None:
    (publish().path / "card.json").unlink()

    with pytest.raises(ModelCorrupt, match=r"card\.json cannot be read"):
        registry.resolve("walls")


@pytest.mark.parametrize("outside", ["../../secret", "/etc/hostname"])
def test_card_cannot_point_outside_its_version(registry: Registry, publish: Publish, outside: str) -> None:
    path = publish().path / "card.json"
    fields = json.loads(path.read_text())
    fields["files"][outside] = {"sha256": "0" * 64, "bytes": 1}
    path.write_text(json.dumps(fields))

    with pytest.raises(ModelCorrupt, match="outside the version"):
        registry.resolve("walls")


@pytest.mark.parametrize("content", ["{", "[]", '{"production": 1}', '{"production": "../v1"}'])
def test_broken_aliases_are_corrupt(registry: Registry, publish: Publish, content: str) -> None:
    (publish().path.parent / "aliases.json").write_text(content)

    with pytest.raises(ModelCorrupt, match=r"aliases\.json"):
        registry.resolve("walls")


def test_unknown_model_is_told_what_there_is(registry: Registry, publish: Publish) -> None:
    publish("walls")
    publish("decks")

    with pytest.raises(ModelNotFound, match="builtin, decks, walls"):
        registry.resolve("tunnels")


@pytest.mark.parametrize("reference", ["walls@v7", "walls@nightly"])
def test_unknown_version_is_told_what_there_is(registry: Registry, publish: Publish, reference: str) -> None:
    publish()
    registry.promote("walls", "v1")

    with pytest.raises(ModelNotFound, match="v1, production"):
        registry.resolve(reference)


def test_alias_of_a_version_that_was_deleted_is_not_silently_replaced(
    registry: Registry, publish: Publish
) -> None:
    folder = publish().path
    publish()
    registry.promote("walls", "v1")
    folder.rename(folder.parent / ".gone")

    with pytest.raises(ModelNotFound, match="v1"):
        registry.resolve("walls")


@pytest.mark.parametrize(
    "reference", ["", "@", "walls@", "../walls", "walls@../v1", ".walls", "a/b", "walls@v1@v2"]
)
def test_reference_cannot_leave_the_registry(registry: Registry, reference: str) -> None:
    with pytest.raises(UsageError, match="does not name"):
        registry.resolve(reference)


def test_version_cannot_serve_as_an_alias(registry: Registry, publish: Publish) -> None:
    publish()

    with pytest.raises(UsageError, match="is a version"):
        registry.promote("walls", "v1", alias="v2")


def test_alias_needs_a_version_that_exists(registry: Registry, publish: Publish) -> None:
    publish()

    with pytest.raises(ModelNotFound):
        registry.promote("walls", "v2")
    assert registry.aliases("walls") == {}


def test_builtin_cannot_be_published_or_promoted(registry: Registry) -> None:
    with pytest.raises(UsageError, match="ships"), registry.staging("builtin"):
        pass
    with pytest.raises(UsageError, match="no aliases"):
        registry.promote("builtin", "v1")


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")

    with pytest.raises(ModelError, match="cannot be written"), Registry(tmp_path / "models").staging("walls"):
        pass


def test_registry_that_does_not_exist_has_only_the_builtin(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "nowhere")

    assert registry.names() == []
    assert registry.versions("walls") == []
    assert registry.aliases("walls") == {}
    assert registry.resolve("builtin").name == "builtin"


def test_builtin_goes_by_its_version_too(registry: Registry) -> None:
    shipped = registry.resolve("builtin")

    assert registry.resolve(shipped.reference) == shipped
    with pytest.raises(ModelNotFound, match="model that ships"):
        registry.resolve("builtin@v999")


def test_stray_files_are_no_models(registry: Registry, publish: Publish) -> None:
    version = publish()
    (registry.root / "notes.txt").write_text("hello")
    (registry.root / ".trash").mkdir()
    (version.path.parent / "v2").write_text("a file")
    (version.path.parent / "old").mkdir()

    assert registry.names() == ["walls"]
    assert registry.versions("walls") == ["v1"]


def test_resolving_loads_no_heavy_package() -> None:
    script = (
        "import sys; from crackmodel.models.registry.registry import Registry;"
        "Registry('.').resolve('builtin');"
        # Not pydantic, which reads the card: the settings of every command have loaded it before.
        "heavy = {'tensorflow', 'keras', 'ray', 'pandas', 'prefect', 'sklearn', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert run.stdout.strip() == "[]"


def test_a_registry_may_be_named_by_a_file_uri(registry: Registry, publish: Publish, tmp_path: Path) -> None:
    published = publish()
    by_uri = Registry((tmp_path / "models").as_uri())
    assert by_uri.resolve("walls") == published
    by_uri.promote("walls", "v1")
    assert registry.aliases("walls") == {"production": "v1"}
