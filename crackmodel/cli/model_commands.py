"""The commands that list, show and promote models; `crackmodel.cli.main` puts them into the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crackmodel.cli.options import JsonOption, ModelArgument, with_options
from crackmodel.settings import ModelsSettings

if TYPE_CHECKING:
    from crackmodel.models.registry.registry import ModelVersion, Registry


@with_options
def list_models(settings: ModelsSettings, as_json: JsonOption = False) -> None:
    """List models, their versions and aliases.

    Example: `crackmodel models list`
    """
    from crackmodel.models.registry.registry import Registry

    registry = Registry(settings.models)
    found = [registry.resolve("builtin")]
    for name in registry.names():
        found += [registry.resolve(f"{name}@{version}") for version in registry.versions(name)]
    rows = [model_summary(version) | {"aliases": _aliases(registry, version)} for version in found]

    if as_json:
        typer.echo(json.dumps({"models": rows}, allow_nan=False))
        return
    for row in rows:
        aliases = f"  <- {', '.join(row['aliases'])}" if row["aliases"] else ""
        typer.echo(
            f"{row['model']:30} {row['sha256'][:12]}  threshold {row['threshold']:.3f}"
            f"{_key_metrics(row['metrics'])}{aliases}"
        )


@with_options
def show_model(
    model: ModelArgument,
    settings: ModelsSettings,
    as_json: JsonOption = False,
) -> None:
    """Show a model's card: data, metrics, threshold, limits; with `--json` everything in it.

    Example: `crackmodel models show builtin`
    """
    from crackmodel.models.card.card import card_to_json
    from crackmodel.models.registry.registry import Registry

    version = Registry(settings.models).resolve(model)
    if as_json:
        typer.echo(card_to_json(version.card), nl=False)
    else:
        print_model(version)


@with_options
def promote_model(
    model: Annotated[str, typer.Argument(help="NAME@VERSION to point the alias at.")],
    settings: ModelsSettings,
    alias: Annotated[str, typer.Option(help="Alias to move.")] = "production",
    force: Annotated[bool, typer.Option("--force", help="Promote it though it is worse.")] = False,
) -> None:
    """Point an alias at a version; `crackmodel score --model NAME` uses `production`.

    A version with lower accuracy or AUROC than the alias' current one, on a test set that both cards
    share, is refused.

    Example: `crackmodel models promote walls@v2`
    """
    from crackmodel.models.registry.promotion import promote_version
    from crackmodel.models.registry.registry import Registry

    registry = Registry(settings.models)
    version = registry.resolve(model)
    promote_version(registry, version, alias, force=force)
    typer.echo(f"{version.name}@{alias} is now {version.reference}")


def _aliases(registry: Registry, version: ModelVersion) -> list[str]:
    if version.name == "builtin":
        return []
    return sorted(
        alias for alias, target in registry.aliases(version.name).items() if target == version.version
    )


def model_summary(version: ModelVersion) -> dict[str, Any]:
    """Tell scripts about a model: where it is, what it hashes to, its metrics."""
    return {
        "model": version.reference,
        "path": str(version.path),
        "sha256": version.sha256,
        "threshold": version.threshold,
        "metrics": {part: asdict(metrics) for part, metrics in version.card.metrics.items()},
    }


def _key_metrics(metrics: dict[str, dict[str, Any]]) -> str:
    """Write accuracy and AUROC on the test part, for a list of models."""
    test = metrics.get("test")
    if test is None:
        return ""
    auroc = "-" if test["auroc"] is None else f"{test['auroc']:.4f}"
    return f"  test accuracy {test['accuracy']:.4f}, AUROC {auroc}"


def print_model(version: ModelVersion) -> None:
    """Tell people about a model: its card, and how to use it."""
    from crackmodel.models.card.markdown import card_to_markdown

    typer.echo(card_to_markdown(version.card))
    typer.echo(f"Model:  {version.path}")
    typer.echo(f"Next:   crackmodel score SURVEY --model {version.reference}")
