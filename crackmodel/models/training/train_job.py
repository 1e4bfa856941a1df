"""Train on a cluster from outside of it: the same command, as a job there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from crackmodel.cluster.jobs.command import Command, from_anywhere, options, positional
from crackmodel.cluster.jobs.submission import Tell, run_job
from crackmodel.errors import ClusterError, ModelNotFound, UsageError
from crackmodel.models.evaluation.evaluate import name_datasets
from crackmodel.models.registry.registry import ModelVersion, Registry
from crackmodel.models.training.training_events import TrainingEvent

_KINDS: Final = {kind.__name__: kind for kind in get_args(TrainingEvent)}

_WITHOUT_OPTION: Final = ("batch_size", "dataset_name", "attribution")


def train_as_job(
    datasets: Path | str | Sequence[Path | str] | Mapping[str, Path | str],
    *,
    address: str,
    models: Path | str,
    like: ModelVersion | str | None,
    weights: Path | None,
    features: Path | None,
    test_sets: Mapping[str, Path | str],
    int8: bool,
    on_event: Tell,
    **given: Any,
) -> ModelVersion:
    """Do what `train_model` does, in a job.

    Args:
        datasets: As for `train_model`; local paths have to lead to the same place on every node there.
        address: Of the cluster's dashboard.
        models: As for `train_model`, on a file system that this machine and the cluster share.
        like: As for `train_model`.
        weights: As for `train_model`.
        features: As for `train_model`.
        test_sets: As for `train_model`.
        int8: As for `train_model`.
        on_event: Gets the events of the training, and the job's.
        **given: The other arguments of `train_model`.

    Raises:
        UsageError: `crackmodel train` has no option for something that is given.
        CrackmodelError: As `train_model`.
    """
    if homeless := [name for name in _WITHOUT_OPTION if given.pop(name)]:
        raise UsageError(
            f"A job cannot be given {', '.join(homeless)}: crackmodel train has no option for it.",
            "Leave it out, or set RAY_ADDRESS to the head's HOST:6379 on a node of the cluster.",
        )
    command = training_command(
        datasets,
        test_sets,
        {
            **given,
            "like": like.reference if isinstance(like, ModelVersion) else like,
            "models": from_anywhere(models),
            "weights": _file(weights),
            "features": features and from_anywhere(features),
            "no_int8": not int8,
        },
    )
    reference = str(run_job(command, address, _KINDS, on_event).get("model", ""))
    try:
        return Registry(models).resolve(reference)
    except ModelNotFound as error:
        raise ClusterError(
            f"The job has trained {reference} into {from_anywhere(models)} of the cluster, which is another "
            "folder than here.",
            "Use it there, or give a --models that lies on a file system that both share.",
        ) from error


def training_command(
    datasets: Path | str | Sequence[Path | str] | Mapping[str, Path | str],
    test_sets: Mapping[str, Path | str],
    settings: Mapping[str, object],
) -> Command:
    """Write the command of a training.

    Raises:
        UsageError: A data set has a name that the command line cannot give it.
    """
    places = [from_anywhere(each) for each in _paths(datasets)]
    tests = [from_anywhere(each) for each in _paths(test_sets)]
    arguments = (*options({**settings, "test": tests}), *positional(places))
    return Command("train", arguments, {}, {"training": " ".join(arguments)})


def _paths(datasets: Path | str | Sequence[Path | str] | Mapping[str, Path | str]) -> list[Path | str]:
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


def _file(weights: Path | None) -> str | None:
    """Name the weights' file; `imagenet` is none, but a word for Keras' own."""
    return None if weights is None else str(weights) if str(weights) == "imagenet" else from_anywhere(weights)
