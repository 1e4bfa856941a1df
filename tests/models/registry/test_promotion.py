from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from crackmodel.errors import ModelError, UsageError
from crackmodel.models.card.card import Card, Metrics
from crackmodel.models.registry.promotion import compare_versions, promote_version
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def _metrics(accuracy: float, auroc: float | None = 0.9, images: int = 100) -> Metrics:
    return Metrics(images, 50, 0.5, accuracy, 0.9, 0.9, 0.9, auroc, 0.9, 0.1, 45, 5, 5, 45)


def _publish(registry: Registry, card: Card, seed: int = 0, **metrics: Metrics) -> ModelVersion:
    with registry.staging("walls") as staged:
        (staged / "model.tflite").write_bytes(b"model")
        return registry.publish(
            "walls",
            staged,
            dataclasses.replace(card, metrics=metrics, data=dataclasses.replace(card.data, seed=seed)),
        )


def test_first_version_is_promoted_without_question(registry: Registry, card: Card) -> None:
    version = _publish(registry, card, deck=_metrics(0.3))

    assert promote_version(registry, version) is None
    assert registry.aliases("walls") == {"production": "v1"}


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        (_metrics(0.89), r"accuracy on deck 0\.8900, was 0\.9000"),
        (_metrics(0.95, auroc=0.85), r"AUROC on deck 0\.8500, was 0\.9000"),
    ],
)
def test_worse_version_is_refused_unless_forced(
    registry: Registry, card: Card, after: Metrics, complaint: str
) -> None:
    promote_version(registry, _publish(registry, card, deck=_metrics(0.9)))
    worse = _publish(registry, card, deck=after)

    with pytest.raises(ModelError, match=complaint) as refused:
        promote_version(registry, worse)
    assert "crackmodel models promote walls@v2 --alias production --force" in refused.value.remedy
    assert registry.aliases("walls") == {"production": "v1"}
    promote_version(registry, worse, "trial")
    promote_version(registry, worse, force=True)
    assert registry.aliases("walls") == {"production": "v2", "trial": "v2"}


def test_equal_and_better_versions_are_promoted(registry: Registry, card: Card) -> None:
    for accuracy in (0.9, 0.9, 0.95):
        promote_version(registry, _publish(registry, card, deck=_metrics(accuracy)))

    assert registry.aliases("walls") == {"production": "v3"}
    promote_version(registry, registry.resolve("walls@v3"))


def test_only_the_same_images_are_compared(registry: Registry, card: Card) -> None:
    first = _publish(
        registry, card, test=_metrics(0.9), validation=_metrics(0.9), deck=_metrics(0.9), pier=_metrics(0.9)
    )
    same = _publish(registry, card, test=_metrics(0.8), validation=_metrics(0.7))
    other = _publish(
        registry,
        card,
        seed=1,
        test=_metrics(0.8),
        deck=_metrics(0.8, images=99),
        pier=_metrics(0.8, auroc=None),
    )

    assert compare_versions(first, same).shared == ("test", "validation")
    assert compare_versions(first, same).losses() == ["accuracy on test 0.8000, was 0.9000"]
    assert compare_versions(first, other).shared == ("pier",)


def test_a_data_sets_share_of_the_test_part_is_compared_like_the_whole_part(
    registry: Registry, card: Card
) -> None:
    walls = {"test:walls": _metrics(0.9)}
    first, same = (_publish(registry, card, **walls) for _ in range(2))
    other = _publish(registry, card, seed=1, **walls)

    assert compare_versions(first, same).shared == ("test:walls",)
    assert compare_versions(first, other).shared == ()


def test_comparison_shows_both_in_columns(registry: Registry, card: Card) -> None:
    first = _publish(registry, card, deck=_metrics(0.9), pier=_metrics(0.7))
    second = _publish(registry, card, deck=_metrics(0.8, images=90))

    comparison = compare_versions(first, second)

    lines = comparison.lines()
    assert lines[0].split() == ["walls@v1", "walls@v2"]
    assert lines[1].split("  ")[0] == "deck (not the same images)"
    assert ["accuracy", "0.9000", "0.8000"] in [line.split() for line in lines]
    assert ["accuracy", "0.7000", "-"] in [line.split() for line in lines]
    found = comparison.as_dict()
    assert found["models"] == ["walls@v1", "walls@v2"]
    assert found["sets"]["pier"]["accuracy"] == [0.7, None]
    assert found["second_is_worse"] == []


def test_model_that_ships_is_not_promoted(registry: Registry) -> None:
    with pytest.raises(UsageError, match="has no aliases"):
        promote_version(registry, registry.resolve("builtin"))
