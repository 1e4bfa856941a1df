"""Training as a job on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from crackmodel.cluster.jobs.command import Command, options, positional
from crackmodel.cluster.jobs.submission import OnEvent, run_job
from crackmodel.errors import ClusterError, ModelNotFound, UsageError
from crackmodel.models.evaluation.evaluate import name_datasets
from crackmodel.models.registry.registry import Registry
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.models.training.training_events import TrainingEvent
from crackmodel.settings import TrainSettings
from crackmodel.storage.location import Location

_KINDS: Final = {kind.__name__: kind for kind in get_args(TrainingEvent)}

Datasets = Path | str | Sequence[Path | str] | Mapping[str, Path | str]


def train_as_job(
    datasets: Datasets,
    settings: TrainSettings,
    *,
    address: str,
    name: str | None,
    test_sets: Mapping[str, Path | str],
    without_option: Mapping[str, object],
    on_event: OnEvent,
) -> ModelVersion:
    """Do what `train_model` does, in a job.

    Args:
        datasets: As for `train_model`; local paths have to lead to the same place on every node there.
        settings: Everything that `train_model` was given; the registry is on a file system that this machine
            and the cluster share.
        address: Of the cluster's dashboard.
        name: As for `train_model`.
        test_sets: All test sets, by the names that their folders give them.
        without_option: Arguments of `train_model` that no command can be given.
        on_event: Gets the events of the training, and the job's.

    Raises:
        UsageError: `crackmodel train` has no option for something that is given.
        CrackmodelError: As `train_model`.
    """
    if unsupported := [argument for argument, value in without_option.items() if value]:
        raise UsageError(
            f"A job cannot be given {', '.join(unsupported)}: crackmodel train has no option for it.",
            "Leave it out, or set RAY_ADDRESS to the head's HOST:6379 on a node of the cluster.",
        )
    command = training_command(datasets, test_sets, settings, name)
    models = settings.models
    reference = str(run_job(command, address, _KINDS, on_event).get("model", ""))
    try:
        return Registry(models).resolve(reference)
    except ModelNotFound as error:
        raise ClusterError(
            f"The job has trained {reference} into {Location.parse(models)} of the cluster, which is another "
            "folder than here.",
            "Use it there, or give a --models that lies on a file system that both share.",
        ) from error


def training_command(
    datasets: Datasets, test_sets: Mapping[str, Path | str], settings: TrainSettings, name: str | None = None
) -> Command:
    """Write the command of a training.

    Raises:
        UsageError: A data set has a name that the command line cannot give it.
    """
    places = [Location.parse(each).uri for each in _paths(datasets)]
    weights = settings.weights
    given = settings.given() | {
        "name": name,
        "models": Location.parse(settings.models).uri,
        "test": [Location.parse(each).uri for each in _paths(test_sets)],
        "weights": "imagenet" if str(weights) == "imagenet" else weights and Location.parse(weights).uri,
        "features": settings.features and Location.parse(settings.features).uri,
    }
    arguments = (*options(given), *positional(places))
    return Command("train", arguments, {"training": " ".join(arguments)})


def _paths(datasets: Datasets) -> list[Path | str]:
    if isinstance(datasets, str | Path):
        return [datasets]
    if not isinstance(datasets, Mapping):
        return list(datasets)
    places = list(datasets.values())
    if name_datasets(places).keys() != datasets.keys():
        raise UsageError(
            f"A job cannot train on data sets with names of their own: {', '.join(sorted(datasets))}.",
            "Give the folders alone, or set RAY_ADDRESS to the head's HOST:6379 on a node of the cluster.",
        )
    return places
