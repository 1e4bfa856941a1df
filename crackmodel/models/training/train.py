"""Training: from labelled folders to a published model version.

    frozen:    images -> features once (Ray tasks) -> a softmax head on them -> assembled, checked, exported
    finetune:  images -> features -> head, as a start -> more layers on augmented tiles -> exported
               (in this process, or by several workers of Ray Train)

Nothing is augmented in frozen training and the backbone does not move, so ten epochs over pixels equal
ten over 1,280 remembered numbers an image.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from crackmodel.cluster.session import jobs_address
from crackmodel.errors import ModelError, UsageError
from crackmodel.models.card.card import TEST_OF
from crackmodel.models.datasets.labelled import LabelledImages, local_dataset, split_70_24_6
from crackmodel.models.datasets.several import combine, find_datasets
from crackmodel.models.evaluation.evaluate import name_datasets
from crackmodel.models.network import find_weights, require_installed
from crackmodel.models.registry.promotion import promote_version
from crackmodel.models.registry.registry import BUILTIN, Registry
from crackmodel.models.registry.versions import ModelVersion
from crackmodel.models.training.fit import OnEvent, fit_network
from crackmodel.models.training.recipe import Recipe, choose_recipe, differences
from crackmodel.models.training.train_job import Datasets, train_as_job
from crackmodel.models.training.training_events import DatasetRead, RecipeRepeated, TrainingEvent
from crackmodel.models.training.version_files import Origin, installed_software, write_version
from crackmodel.settings import TrainSettings

_LONGEST_NAME: Final = 80


def train_model(
    datasets: Datasets,
    *,
    name: str | None = None,
    like: ModelVersion | str | None = None,
    test_sets: Mapping[str, Path | str] | None = None,
    dataset_name: str | None = None,
    attribution: Sequence[str] = (),
    on_event: OnEvent = lambda _: None,
    **settings: Any,
) -> ModelVersion:
    """Train a model and publish it as the next version of `name`.

    The same data, arguments and machine give the same model. Keras', NumPy's and Python's global random
    generators are seeded on the way. Where `RAY_ADDRESS` is the `http://` address of a cluster's dashboard,
    a job there does it: see `crackmodel.models.training.train_job`.

    Args:
        datasets: A folder with two class folders of images, or a CSV or Parquet manifest; several of
            these, also by the names they get in the card. Several are trained on together, split alike,
            and measured one by one as `test:NAME` too.
        name: The model's name; that of `like`, or the data set's, if None.
        like: A model whose recipe is repeated, as a version or a reference in `models`; what is given here
            goes before it. The event `RecipeRepeated` names what else differs: images, weights, software.
        test_sets: Further labelled folders to evaluate, by the name they get in the card; those of the
            setting `test` are named after their folders.
        dataset_name: The name of the data in the card, the folder's name if None.
        attribution: Whom to credit for the data, for the card.
        on_event: Called with every event, see `training_events`.
        **settings: Any other field of `crackmodel.settings.TrainSettings`, e.g. `mode="finetune", epochs=3`.

    Returns:
        The published version.

    Raises:
        UsageError: An argument makes no sense, or TensorFlow is not installed.
        DatasetError: The folder is no such data set, or too small; so for every test set.
        WeightsNotFound: There are no weights to start from.
        ModelNotFound: There is no model `like`.
        ModelExportFailed: The export is not equal to the network; nothing was published.
        ModelError: The registry cannot be written, the card of `like` has no recipe, or the version is
            published but not promoted, because the one in production is better.
        ClusterError: Ray failed.
    """
    reference = like.reference if isinstance(like, ModelVersion) else like
    chosen = TrainSettings.read(like=reference, **settings)
    test_sets = {**name_datasets(chosen.test or ()), **(test_sets or {})}
    if (cluster := jobs_address()) and chosen.workers != 0:
        return train_as_job(
            datasets,
            chosen,
            address=cluster,
            name=name,
            test_sets=test_sets,
            without_option={"dataset_name": dataset_name, "attribution": attribution},
            on_event=on_event,
        )
    # Everything that can be refused is refused before the hours of work.
    registry = Registry(chosen.models)
    folder = registry.local_root()
    model = like if isinstance(like, ModelVersion) else registry.resolve(chosen.like) if chosen.like else None
    recipe = choose_recipe(model, chosen)
    _check_workers(chosen.train_workers, chosen.gpus_per_worker, recipe.mode)
    named, data_name = _name(datasets, dataset_name)
    if model is not None and model.name != BUILTIN:
        name = name or model.name
    name = name or re.sub(r"[^A-Za-z0-9.-]+", "-", data_name).strip("-.")[:_LONGEST_NAME] or "crack"
    with registry.staging(name) as staged:
        require_installed("Training", "tensorflow", "keras", "sklearn", "matplotlib")
        of_test_sets = tuple(f"{test_set}=" for test_set in test_sets.keys() - named.keys())
        positive = [cls for cls in recipe.positive if not cls.startswith(of_test_sets)]
        listed = find_datasets(named, positive, all_used=chosen.positive is not None)
        further = find_datasets(test_sets, _for_test_sets(recipe.positive, test_sets), all_used=False)
        recipe = replace(recipe, positive=_positive_classes(listed))
        images = combine(listed)
        _check_names(further)
        if recipe.split == "random":
            split_70_24_6(images.labels, recipe.seed)  # too few files are too few images
        weights_file = find_weights(chosen.weights)
        weights_sha256 = hashlib.sha256(weights_file.read_bytes()).hexdigest()
        software = installed_software()
        started = time.monotonic()
        cache = folder / ".features" if chosen.features is None else chosen.features.expanduser()

        def listen(event: TrainingEvent) -> None:
            on_event(event)
            if model is not None and isinstance(event, DatasetRead):
                found = differences(model.card, event, weights_sha256, software)
                on_event(RecipeRepeated(model.reference, found))

        fitted = fit_network(images, recipe, weights_file, chosen, staged, cache, listen)
        origin = Origin(
            data=data_name,
            recipe=recipe,
            weights=weights_file,
            weights_sha256=weights_sha256,
            software=software,
            command=_command(named, recipe),
            attribution=tuple(attribution),
        )
        try:
            card = write_version(staged, fitted, origin, further, started, int8=chosen.int8)
            version = registry.publish(name, staged, card)
        except OSError as fault:
            raise ModelError(
                f"The model cannot be written below {folder}: {fault.strerror}.",
                "Free space or choose another folder with --models; the training has to be run again.",
            ) from fault
    if chosen.promote:
        promote_version(registry, version)
    return version


def _name(datasets: Datasets, name: str | None) -> tuple[dict[str, Path | str], str]:
    """Name every data set, and all of them together."""
    if isinstance(datasets, Mapping):
        named = dict(datasets)
    else:
        given = [datasets] if isinstance(datasets, str | Path) else list(datasets)
        if len(given) == 1:
            place = local_dataset(given[0]).resolve()
            named = {name or (place.stem if place.is_file() else place.name): given[0]}
        else:
            named = dict(name_datasets(given))
    if not named:
        raise UsageError("There is no data set to train on.", "Name at least one.")
    return named, name or "+".join(sorted(named))


def _check_names(test_sets: Iterable[str]) -> None:
    for name in test_sets:
        if name in ("validation", "test") or name.startswith(TEST_OF):
            raise UsageError(
                f"A test set cannot be called {name!r}: that is a part of the training's own data.",
                "Rename its folder.",
            )


def _positive_classes(listed: Mapping[str, LabelledImages]) -> tuple[str, ...]:
    """Name every data set's class of cracks for the card."""
    if len(listed) == 1:
        return tuple(images.positive for images in listed.values())
    return tuple(f"{name}={images.positive}" for name, images in sorted(listed.items()))


def _for_test_sets(positive: Iterable[str], test_sets: Iterable[str]) -> list[str]:
    """Apply the training sets' classes of cracks to test sets."""
    own = set(test_sets)
    return [cls if cls.partition("=")[0] in own else cls.partition("=")[2] or cls for cls in positive]


def _check_workers(train_workers: int | None, gpus: int, mode: str) -> None:
    if train_workers and (train_workers < 2 or mode != "finetune"):
        raise UsageError(
            f"{train_workers} training workers cannot share a training of mode {mode}.",
            "Give --train-workers 2 or more with --mode finetune, or leave it out to train in one process.",
        )
    if gpus and not train_workers:
        raise UsageError(
            f"{gpus} GPUs per worker cannot be used by {train_workers or 'no'} training workers.",
            "Give --gpus-per-worker 1 with as many --train-workers as there are GPUs.",
        )


def _command(named: Iterable[str], recipe: Recipe) -> str:
    quoted = [f'"{name}"' for name in sorted(named)]
    data = quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
    split = "" if recipe.split == "random" else f'split="{recipe.split}", '
    split += "" if recipe.group_by is None else f"group_by={recipe.group_by!r}, "
    numbers = f"epochs={recipe.epochs}, batch_size={recipe.batch_size}, seed={recipe.seed}"
    numbers += ', precision="mixed"' if recipe.finetune and recipe.finetune.precision == "mixed" else ""
    numbers += "" if recipe.target_recall is None else f", target_recall={recipe.target_recall:g}"
    return f'train_model({data}, mode="{recipe.mode}", {split}{numbers})'
