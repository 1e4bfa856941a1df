"""The commands that make, measure, list and promote models."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crackmodel.cli.options import DatasetsArgument, JsonOption, ModelArgument, ModelNameOption, with_options
from crackmodel.cli.results import print_result
from crackmodel.settings import EvaluateSettings, ModelsSettings, TrainSettings

if TYPE_CHECKING:
    from crackmodel.models.evaluation.evaluate import Evaluation
    from crackmodel.models.registry.registry import Registry
    from crackmodel.models.registry.versions import ModelVersion


@with_options
def train(
    datasets: DatasetsArgument,
    settings: TrainSettings,
    name: ModelNameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a crack classifier on labelled images and put it into the registry.

    Example: `crackmodel train metu --name walls --weights mobilenet_v2_no_top.h5 --promote`
    """
    from crackmodel.cli.progress import TrainingLines
    from crackmodel.cluster.jobs.log_protocol import Recorder, recording
    from crackmodel.models.training.train import train_model

    # As for score: stdout belongs to the result.
    with redirect_stdout(sys.stderr):
        listener = Recorder(sys.stderr) if recording() else TrainingLines(sys.stderr)
        version = train_model(datasets, name=name, on_event=listener, **settings.given())
    print_result(model_summary(version), as_json, lambda: print_model(version))


@with_options
def evaluate(
    model: ModelArgument,
    datasets: Annotated[
        list[str],
        typer.Argument(metavar="DATASET...", help="Labelled folders or manifests; each is measured alone."),
    ],
    settings: EvaluateSettings,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled images: metrics with 95 % intervals, pictures, one page to look at.

    Example: `crackmodel evaluate builtin walls --positive cracked --out walls-evaluation`
    """
    from crackmodel.models.evaluation.evaluate import evaluate_model
    from crackmodel.models.registry.registry import Registry

    version = Registry(settings.models).resolve(model)
    found = evaluate_model(
        version, datasets, positive=settings.positive, group_by=settings.group_by, out=settings.out
    )
    typer.echo(json.dumps(found.as_dict(), allow_nan=False) if as_json else _evaluation_lines(found))


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


@with_options
def compare_models(
    first: ModelArgument,
    second: Annotated[str, typer.Argument(help="Another one.")],
    settings: ModelsSettings,
    as_json: JsonOption = False,
) -> None:
    """Show two models' metrics side by side, from their cards.

    Example: `crackmodel models compare walls@production walls@v2`
    """
    from crackmodel.models.registry.promotion import compare_versions
    from crackmodel.models.registry.registry import Registry

    registry = Registry(settings.models)
    found = compare_versions(registry.resolve(first), registry.resolve(second))
    typer.echo(json.dumps(found.as_dict(), allow_nan=False) if as_json else "\n".join(found.lines()))


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


def _evaluation_lines(found: Evaluation) -> str:
    """Write an evaluation for a terminal: each data set's metrics with their intervals, then the page."""
    from crackmodel.models.card.metric_names import METRIC_NAMES, metric_text

    lines = [f"{found.model}, threshold {found.threshold:g}"]
    for name, each in found.sets.items():
        metrics = each.metrics
        lines += ["", f"{name}: {metrics.images:,} images, {metrics.cracks:,} with cracks"]
        lines += [f"  {shown:27} {metric_text(metrics, key)}" for key, shown in METRIC_NAMES.items()]
        lines.append(
            f"  {metrics.true_positives:,} cracks found, {metrics.false_negatives:,} missed, "
            f"{metrics.false_positives:,} false alarms, {metrics.true_negatives:,} clear"
        )
        if each.scored.bad:
            bad = each.scored.bad
            lines.append(f"  {len(bad):,} files left out, first {bad[0].file}: {bad[0].reason}")
    return "\n".join([*lines, "", f"Page:   {found.page}"])
