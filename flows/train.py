"""Train a classifier as a Prefect flow: `python -m flows.train DATASET...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from crackmodel.cli.exits import run_command
from crackmodel.cli.options import DatasetsArgument, ModelNameOption, with_options, with_parameters
from crackmodel.cli.progress import repeated_line, stock_line
from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobSaid, JobStarted
from crackmodel.models.card.markdown import card_to_markdown
from crackmodel.models.registry.registry import ModelVersion
from crackmodel.models.training.train import train_model
from crackmodel.models.training.training_events import (
    DatasetRead,
    EpochFinished,
    FeaturesExtracted,
    RecipeRepeated,
    TrainingEvent,
)
from crackmodel.settings import TrainSettings
from flows.running import run_embedded


def _title(datasets: Sequence[str]) -> str:
    return f"train on {', '.join(Path(each).name for each in datasets)}"


# The recipe is deterministic: a training that failed once fails again, so nothing is repeated.
@task(
    name="train-model",
    task_run_name=lambda: _title(runtime.task_run.parameters["datasets"]),
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_on_ray(datasets: Sequence[str], name: str | None, settings: TrainSettings) -> ModelVersion:
    """Extract features in Ray tasks, fit, evaluate, export, register; this task is the Ray driver."""
    log = get_run_logger()

    def listen(event: TrainingEvent) -> None:
        match event:
            case FeaturesExtracted(done, total) if done == total:
                log.info("Features of %d images extracted", total)
            case DatasetRead():
                log.log(30 if event.bad else 20, "%s", stock_line(event))
            case RecipeRepeated():
                log.log(30 if event.differences else 20, "%s", repeated_line(event))
            case JobStarted() | JobSaid() | ClusterAwaited():
                log.info("%s", event.text)
            case EpochFinished():
                log.info(
                    "Epoch %d of %d: validation loss %.4f, accuracy %.4f",
                    event.epoch, event.epochs, event.val_loss, event.val_accuracy,
                )  # fmt: skip

    return train_model(datasets, name=name, on_event=listen, **settings.given())


@flow(
    name="train-model",
    flow_run_name=lambda: _title(runtime.flow_run.parameters["datasets"]),
    persist_result=False,
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
