"""Train a classifier as a Prefect flow: `python -m flows.train DATASET`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from crackmodel.models.card import card_to_markdown
from crackmodel.models.events import EpochFinished, FeaturesExtracted, TrainingEvent
from crackmodel.models.registry import ModelVersion
from crackmodel.models.training import train_model
from crackmodel.settings import TrainSettings
from flows.embedded import run_embedded

Mode = Literal["frozen", "finetune"]


# The recipe is deterministic: a training that failed once fails again, so nothing is repeated.
@task(
    name="train-model",
    task_run_name="train on {dataset}",
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_on_ray(
    dataset: Path,
    *,
    name: str | None,
    mode: Mode,
    test_sets: dict[str, Path],
    settings: TrainSettings,
    workers: int | None,
    train_workers: int | None,
    promote: bool,
) -> ModelVersion:
    """Extract features in Ray tasks, fit, evaluate, export, register; this task is the Ray driver."""
    log = get_run_logger()

    def listen(event: TrainingEvent) -> None:
        match event:
            case FeaturesExtracted(done, total) if done == total:
                log.info("Features of %d images extracted", total)
            case EpochFinished():
                log.info(
                    "Epoch %d of %d: validation loss %.4f, accuracy %.4f",
                    event.epoch, event.epochs, event.val_loss, event.val_accuracy,
                )  # fmt: skip

    return train_model(
        dataset,
        name=name,
        mode=mode,
        test_sets=test_sets,
        weights=settings.weights,
        models=settings.models,
        features=settings.features,
        workers=workers,
        train_workers=train_workers,
        promote=promote,
        on_event=listen,
    )


@flow(name="train-model", flow_run_name="train on {dataset}", persist_result=False)
def train(
    dataset: Path,
    name: str | None = None,
    mode: Mode = "frozen",
    test: list[Path] | None = None,
    weights: Path | None = None,
    models: Path | None = None,
    workers: int | None = None,
    train_workers: int | None = None,
    promote: bool = False,
) -> ModelVersion:
    """Train a crack classifier on labelled images and put it into the registry.

    Args:
        dataset: Folder with one folder of images per class.
        name: Name in the registry; the folder's by default.
        mode: `frozen` trains the head on ImageNet features, `finetune` all layers.
        test: Further labelled folders to evaluate on.
        weights: ImageNet weights of MobileNetV2; `CRACKMODEL_WEIGHTS`, else Keras' own download.
        models: Folder of the registry; `CRACKMODEL_MODELS`, else `models`.
        workers: Parallel feature tasks; 0 runs without Ray.
        train_workers: Processes that fine-tune together, on Ray; the task's own by default.
        promote: Point the alias `production` at the new version.

    Returns:
        The new version.
    """
    version = train_on_ray(
        dataset,
        name=name,
        mode=mode,
        test_sets={folder.name: folder for folder in test or ()},
        settings=TrainSettings.read(weights=weights, models=models),
        workers=workers,
        train_workers=train_workers,
        promote=promote,
    )
    create_markdown_artifact(
        key="model-card", markdown=card_to_markdown(version.card), description=version.reference
    )
    return version


def main(
    dataset: Annotated[Path, typer.Argument(help="Folder with one folder of images per class.")],
    name: Annotated[str | None, typer.Option(help="Name in the registry. [default: the folder's]")] = None,
    mode: Annotated[Mode, typer.Option(help="frozen or finetune.")] = "frozen",
    test: Annotated[list[Path] | None, typer.Option(help="Further labelled folder to evaluate on.")] = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of MobileNetV2, .h5.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder of the registry. [default: models]")] = None,
    workers: Annotated[int | None, typer.Option(help="Parallel tasks; 0 without Ray.")] = None,
    train_workers: Annotated[int | None, typer.Option(help="Processes that fine-tune together.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Point `production` at it.")] = False,
) -> None:
    """Train through Prefect, with run names, logs and the model card as an artifact.

    Example: `python -m flows.train metu --name walls --promote`
    """
    version = run_embedded(
        lambda: train(
            dataset,
            name=name,
            mode=mode,
            test=test,
            weights=weights,
            models=models,
            workers=workers,
            train_workers=train_workers,
            promote=promote,
        )
    )
    typer.echo(card_to_markdown(version.card))


if __name__ == "__main__":
    typer.run(main)
