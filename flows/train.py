"""Train a classifier as a Prefect flow: `python -m flows.train DATASET...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import typer
from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from crackmodel.cli.options import (
    DatasetsArgument,
    EpochsOption,
    FeaturesOption,
    GpusPerWorkerOption,
    GroupByOption,
    Int8Option,
    LikeOption,
    ModelNameOption,
    ModelsOption,
    ModeOption,
    PositiveOption,
    PrecisionOption,
    PromoteOption,
    SeedOption,
    SplitOption,
    TargetRecallOption,
    TestOption,
    TrainWorkersOption,
    WeightsOption,
    WorkersOption,
)
from crackmodel.cli.progress import repeated_line, stock_line
from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.job_events import JobSaid, JobStarted
from crackmodel.models.card.markdown import card_to_markdown
from crackmodel.models.evaluation.evaluate import name_datasets
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


def _title(datasets: Sequence[Path]) -> str:
    return f"train on {', '.join(Path(each).name for each in datasets)}"


# The recipe is deterministic: a training that failed once fails again, so nothing is repeated.
@task(
    name="train-model",
    task_run_name=lambda: _title(runtime.task_run.parameters["datasets"]),
    retries=0,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_on_ray(datasets: Sequence[Path], settings: dict[str, Any]) -> ModelVersion:
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

    return train_model(datasets, on_event=listen, **settings)


@flow(
    name="train-model",
    flow_run_name=lambda: _title(runtime.flow_run.parameters["datasets"]),
    persist_result=False,
)
def train(
    datasets: list[Path],
    name: str | None = None,
    like: str | None = None,
    mode: Literal["frozen", "finetune"] | None = None,
    split: Literal["random", "grouped"] | None = None,
    group_by: str | None = None,
    positive: list[str] | None = None,
    test: list[Path] | None = None,
    weights: Path | None = None,
    models: str | None = None,
    features: Path | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    train_workers: int | None = None,
    target_recall: float | None = None,
    gpus_per_worker: int = 0,
    precision: Literal["float32", "mixed"] | None = None,
    int8: bool = True,
    promote: bool = False,
) -> ModelVersion:
    """Train a crack classifier on labelled images and put it into the registry.

    Args:
        datasets: Folders with one folder of images per class, or manifests.
        name: Name in the registry; the folder's by default.
        like: `NAME@VERSION` whose recipe is repeated; what is given here goes before it.
        mode: `frozen` trains the head on ImageNet features, `finetune` most layers.
        split: `random` divides image by image, `grouped` by whole groups.
        group_by: Regular expression whose first group in an image's path names its group.
        positive: Classes that mean cracks: `CLASS`, or `SET=CLASS` for one of several sets.
        test: Further labelled folders to evaluate on.
        weights: ImageNet weights of MobileNetV2; `CRACKMODEL_WEIGHTS`, else Keras' own download.
        models: Folder of the registry, a local one; `CRACKMODEL_MODELS`, else `models`.
        features: Folder that keeps features for later trainings; `CRACKMODEL_FEATURES`, else in `models`.
        epochs: Passes over the training images.
        seed: Decides the split and the order of images.
        workers: Parallel feature tasks; 0 runs without Ray.
        train_workers: Processes that fine-tune together, on Ray; the task's own by default.
        target_recall: Share of the validation part's cracks that the threshold is chosen for.
        gpus_per_worker: GPUs of each training worker, 0 or 1.
        precision: Of fine-tuning: `mixed` calculates in bfloat16.
        int8: Make an int8 model too, published where it passes.
        promote: Point the alias `production` at the new version.

    Returns:
        The new version.
    """
    places = TrainSettings.read(weights=weights, models=models, features=features)
    settings = {
        "name": name,
        "like": like,
        "mode": mode,
        "split": split,
        "group_by": group_by,
        "positive": positive,
        "test_sets": name_datasets(test or ()),
        "weights": places.weights,
        "models": places.models,
        "features": places.features,
        "epochs": epochs,
        "seed": seed,
        "workers": workers,
        "train_workers": train_workers,
        "target_recall": target_recall,
        "gpus_per_worker": gpus_per_worker,
        "precision": precision,
        "int8": int8,
        "promote": promote,
    }
    version = train_on_ray(datasets, settings)
    create_markdown_artifact(
        key="model-card", markdown=card_to_markdown(version.card), description=version.reference
    )
    return version


def main(
    datasets: DatasetsArgument,
    name: ModelNameOption = None,
    like: LikeOption = None,
    mode: ModeOption = None,
    split: SplitOption = None,
    group_by: GroupByOption = None,
    positive: PositiveOption = None,
    test: TestOption = None,
    weights: WeightsOption = None,
    models: ModelsOption = None,
    features: FeaturesOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    train_workers: TrainWorkersOption = None,
    target_recall: TargetRecallOption = None,
    gpus_per_worker: GpusPerWorkerOption = 0,
    precision: PrecisionOption = None,
    int8: Int8Option = True,
    promote: PromoteOption = False,
) -> None:
    """Train through Prefect, with run names, logs and the model card as an artifact.

    Example: `python -m flows.train metu --name walls --promote`
    """
    version = run_embedded(
        lambda: train(
            datasets,
            name=name,
            like=like,
            mode=mode,
            split=split,
            group_by=group_by,
            positive=positive,
            test=test,
            weights=weights,
            models=models,
            features=features,
            epochs=epochs,
            seed=seed,
            workers=workers,
            train_workers=train_workers,
            target_recall=target_recall,
            gpus_per_worker=gpus_per_worker,
            precision=precision,
            int8=int8,
            promote=promote,
        )
    )
    typer.echo(card_to_markdown(version.card))


if __name__ == "__main__":
    typer.run(main)
