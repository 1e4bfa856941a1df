"""The commands that measure and compare models; `crackmodel.cli.main` puts them into the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from crackmodel.cli.options import JsonOption, ModelArgument, with_options
from crackmodel.settings import EvaluateSettings, ModelsSettings

if TYPE_CHECKING:
    from crackmodel.models.evaluation.evaluate import Evaluation


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
    typer.echo(json.dumps(found.as_dict(), allow_nan=False) if as_json else evaluation_lines(found))


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


def evaluation_lines(found: Evaluation) -> str:
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
