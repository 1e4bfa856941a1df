"""Train a classifier as a Prefect flow: `python -m flows.train DATASET...`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import typer
from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact

from crackmodel.cli.exits import run_command
from crackmodel.cli.options import DatasetsArgument, ModelNameOption, with_options, with_parameters
from crackmodel.models.card.markdown import card_to_markdown
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.models.training.train import train_model
from crackmodel.models.training.training_events import FeaturesExtracted, TrainingEvent
from crackmodel.settings import TrainSettings
from flows.running import run_embedded, run_task


def _title(datasets: Sequence[str]) -> str:
    return f"train on {', '.join(Path(each).name for each in datasets)}"


@run_task(name="train-model", task_run_name=lambda: _title(runtime.task_run.parameters["datasets"]))
def train_on_ray(datasets: Sequence[str], name: str | None, settings: TrainSettings) -> ModelVersion:
    """Extract features in Ray tasks, fit, evaluate, export, register; this task is the Ray driver."""
    log = get_run_logger()

    def listen(event: TrainingEvent) -> None:
        if isinstance(event, FeaturesExtracted) and event.done < event.total:
            return
        warns = getattr(event, "bad", ()) or getattr(event, "differences", ())
        log.log(logging.WARNING if warns else logging.INFO, "%s", event.text)

    return train_model(datasets, name=name, on_event=listen, **settings.given())


@flow(
    name="train-model",
    flow_run_name=lambda: _title(runtime.flow_run.parameters["datasets"]),
    persist_result=False,
    validate_parameters=False,
)
@with_parameters
def train(datasets: list[str], settings: TrainSettings, name: str | None = None) -> ModelVersion:
    """Train a crack classifier on labelled images and put it into the registry.

    Args:
        datasets: Folders with one folder of images per class, or manifests.
        settings: How the model is trained.
        name: Name in the registry; the folder's by default.

    Returns:
        The new version.
    """
    version = train_on_ray(datasets, name, settings)
    create_markdown_artifact(
        key="model-card", markdown=card_to_markdown(version.card), description=version.reference
    )
    return version


@with_options
def main(datasets: DatasetsArgument, settings: TrainSettings, name: ModelNameOption = None) -> None:
    """Train through Prefect, with run names, logs and the model card as an artifact.

    Example: `python -m flows.train metu --name walls --promote`
    """
    version = run_embedded(lambda: train(datasets, name=name, **settings.given()))
    typer.echo(card_to_markdown(version.card))


if __name__ == "__main__":
    run_command(main)
