"""Comparison of two model versions, and the rule for promotion."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from crackmodel.errors import ModelError
from crackmodel.models.card.card import TEST_OF
from crackmodel.models.card.metric_names import METRIC_NAMES, metric_text
from crackmodel.models.registry.registry import PRODUCTION, Registry
from crackmodel.models.registry.versions import ModelVersion

DECIDING: Final = ("accuracy", "auroc")
"""The metrics in which a promoted model must not be worse."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions with the sets that both were measured on.

    Attributes:
        first: A version.
        second: Another one.
        shared: Names of the sets with the same images on both cards.
    """

    first: ModelVersion
    second: ModelVersion
    shared: tuple[str, ...]

    def losses(self) -> list[str]:
        """List where the second version is worse in a deciding metric."""
        found = []
        for name in self.shared:
            if name == "validation":
                continue
            before, after = (version.card.metrics[name] for version in (self.first, self.second))
            for key in DECIDING:
                old, new = getattr(before, key), getattr(after, key)
                if old is not None and new is not None and new < old:
                    found.append(f"{METRIC_NAMES[key]} on {name} {new:.4f}, was {old:.4f}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics of both by set, ready for JSON."""
        versions = (self.first, self.second)
        return {
            "models": [version.reference for version in versions],
            "shared": list(self.shared),
            "sets": {
                name: {
                    key: [getattr(version.card.metrics.get(name), key, None) for version in versions]
                    for key in ("images", *METRIC_NAMES)
                }
                for name in self._names()
            },
            "second_is_worse": self.losses(),
        }

    def lines(self) -> list[str]:
        """Write the metrics in columns; sets whose images differ are marked."""
        versions = (self.first, self.second)
        rows = [("", *(version.reference for version in versions))]
        for name in self._names():
            found = [version.card.metrics.get(name) for version in versions]
            mark = "" if name in self.shared else " (not the same images)"
            rows.append(
                (f"{name}{mark}", *("" if each is None else f"{each.images:,} images" for each in found))
            )
            rows += [
                (f"  {shown}", *("-" if each is None else metric_text(each, key) for each in found))
                for key, shown in METRIC_NAMES.items()
            ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                for row in rows]  # fmt: skip

    def _names(self) -> list[str]:
        return list(dict.fromkeys([*self.first.card.metrics, *self.second.card.metrics]))


def compare_versions(first: ModelVersion, second: ModelVersion) -> Comparison:
    """Compare two versions by what their cards say; nothing is scored.

    A set is shared where both cards name it with as many images and cracks. `test`, `test:NAME` and
    `validation` are parts of what each version was trained on, and shared only if data, split and seed
    were the same.
    """
    division = attrgetter("data.fingerprint", "data.split", "data.seed")
    shared = []
    for name, metrics in first.card.metrics.items():
        other = second.card.metrics.get(name)
        if other is None or (metrics.images, metrics.cracks) != (other.images, other.cracks):
            continue
        own_part = name in ("test", "validation") or name.startswith(TEST_OF)
        if not own_part or division(first.card) == division(second.card):
            shared.append(name)
    return Comparison(first, second, tuple(shared))


def promote_version(
    registry: Registry, version: ModelVersion, alias: str = PRODUCTION, *, force: bool = False
) -> Comparison | None:
    """Point an alias at a version unless that makes things worse.

    Args:
        registry: Where the version is.
        version: What to promote.
        alias: Its new name.
        force: Promote it in any case.

    Returns:
        The comparison with the alias' old version, None if there was none.

    Raises:
        ModelError: Accuracy or AUROC is worse on a test set that both cards share.
        UsageError: Not an alias, or the version is the one that ships.
    """
    current = registry.aliases(version.name).get(alias) if version.name in registry.names() else None
    comparison = None
    if current and current != version.version:
        comparison = compare_versions(registry.resolve(f"{version.name}@{current}"), version)
        losses = comparison.losses()
        if losses and not force:
            raise ModelError(
                f"{version.reference} is worse than {comparison.first.reference}, which is {alias} now: "
                f"{'; '.join(losses)}.",
                f"Keep the one, or promote the other all the same: "
                f"crackmodel models promote {version.reference} --alias {alias} --force",
            )
    registry.promote(version.name, version.version, alias)
    return comparison
