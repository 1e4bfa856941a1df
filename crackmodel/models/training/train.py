"""From labelled folders to a published model version.

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
from typing import Final

from crackmodel.cluster.session import jobs_address
from crackmodel.errors import ModelError, UsageError
from crackmodel.models.card.card import TEST_OF
from crackmodel.models.datasets.labelled import LabelledImages, split_70_24_6
from crackmodel.models.datasets.several import combine, find_datasets
from crackmodel.models.datasets.splits import SplitKind
from crackmodel.models.evaluation.evaluate import name_datasets
from crackmodel.models.network import find_weights, require_training
from crackmodel.models.registry.promotion import promote_version
from crackmodel.models.registry.registry import BUILTIN, ModelVersion, Registry
from crackmodel.models.training.fit import OnEvent, fit_network
from crackmodel.models.training.precision import Precision
from crackmodel.models.training.recipe import Mode, Recipe, choose_recipe, differences
from crackmodel.models.training.train_job import train_as_job
from crackmodel.models.training.training_events import DatasetRead, RecipeRepeated, TrainingEvent
from crackmodel.models.training.version_files import Origin, installed_software, write_version
from crackmodel.settings import TrainSettings

_LONGEST_NAME: Final = 80

Datasets = Path | str | Sequence[Path | str] | Mapping[str, Path | str]


def train_model(
    datasets: Datasets,
    *,
    like: ModelVersion | str | None = None,
    mode: Mode | None = None,
    split: SplitKind | None = None,
    group_by: str | None = None,
    name: str | None = None,
    positive: str | Sequence[str] | None = None,
    weights: Path | str | None = None,
    models: Path | str | None = None,
    features: Path | str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    train_workers: int | None = None,
    target_recall: float | None = None,
    gpus_per_worker: int = 0,
    precision: Precision | None = None,
    int8: bool = True,
    promote: bool = False,
    test_sets: Mapping[str, Path | str] | None = None,
    dataset_name: str | None = None,
    attribution: Sequence[str] = (),
    on_event: OnEvent | None = None,
) -> ModelVersion:
    """Train a model and publish it as the next version of `name`.

    The same data, arguments and machine give the same model. Keras', NumPy's and Python's global random
    generators are seeded on the way. Where `RAY_ADDRESS` is the `http://` address of a cluster's dashboard,
    a job there does it: see `crackmodel.models.training.train_job`.

    Args:
        datasets: A folder with two class folders of images, or a CSV or Parquet manifest; several of
            these, also by the names they get in the card. Several are trained on together, split alike,
            and measured one by one as `test:NAME` too.
        like: A model whose recipe is repeated, as a version or a reference in `models`; what is given here
            goes before it. `RecipeRepeated` tells what differs besides: images, weights, software.
        mode: `frozen`, the default, trains a head on the features of the ImageNet backbone, in minutes;
            `finetune` trains most layers on augmented tiles, which lie in a file meanwhile (77 kB each).
        split: `random`, the default: the 70:24:6 reference split, alike in classes; or `grouped`, which
            keeps the images of a group in one part.
        group_by: With `grouped`, see `splitting.SplitRule`.
        name: The model's name; that of `like`, or the data set's, if None.
        positive: Classes that mean cracks: `CLASS`, or `NAME=CLASS` for one of several data sets; recognised
            by their names if None.
        weights: ImageNet weights of the backbone, see `network.find_weights`; `CRACKMODEL_WEIGHTS` if None.
        models: The registry's folder, a local one; `CRACKMODEL_MODELS` if None, else `models`.
        features: Folder where features are kept for the next training on the same pictures;
            `CRACKMODEL_FEATURES` if None, else `.features` in the registry's folder.
        epochs: Passes over the training part, 10 by default; fine-tuning may stop earlier.
        batch_size: Images a step; by default 16, and 32 with `finetune`.
        seed: 0 by default; of the split, the head's first weights, the order and the augmentation.
        workers: CPUs of an embedded Ray for the features of `frozen`, None for all; 0 works without Ray.
        train_workers: Processes that fine-tune together, a CPU of Ray's each; None or 0 fine-tunes in this
            process. On several nodes `models` has to be on a file system that all of them share.
        target_recall: Choose the threshold for this share of the validation part's cracks, in place of the
            best F1: see `evaluation.choose_threshold`.
        gpus_per_worker: GPUs of each training worker, 0 or 1.
        precision: Of fine-tuning: `float32`, the default, or `mixed` for convolutions in bfloat16. What is
            published is float32 in either case.
        int8: Make a `model-int8.tflite` too, published where it passes: see `quantisation.check_int8`.
        promote: Let the alias `production` point at the new version, unless it is worse.
        test_sets: Further labelled folders to evaluate, by the name they get in the card.
        dataset_name: The name of the data in the card, the folder's name if None.
        attribution: Whom to credit for the data, for the card.
        on_event: Told about every chunk of features and every epoch.

    Returns:
        The published version.

    Raises:
        UsageError: An argument makes no sense, or TensorFlow is not installed.
        DatasetError: The folder is no such data set, or too small; so for every test set.
        WeightsNotFound: There are no weights to start from.
        ModelNotFound: There is no model `like`.
        ModelExportFailed: The export is not equal to the network; nothing was published.
        ModelError: The registry cannot be written, the card of `like` has no recipe, or the version is
            published but not promoted, because
            the one in production is better.
        ClusterError: Ray failed.
    """
    places = TrainSettings.read(models=models, weights=weights, features=features)
    if (cluster := jobs_address()) and workers != 0:
        return train_as_job(
            datasets,
            address=cluster,
            models=places.models,
            like=like,
            weights=places.weights,
            features=places.features,
            test_sets=test_sets or {},
            int8=int8,
            on_event=on_event or (lambda _: None),
            mode=mode,
            split=split,
            group_by=group_by,
            name=name,
            positive=positive,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            train_workers=train_workers,
            target_recall=target_recall,
            gpus_per_worker=gpus_per_worker,
            precision=precision,
            promote=promote,
            dataset_name=dataset_name,
            attribution=attribution,
        )
    # Everything that can be refused is refused before the hours of work.
    tell: OnEvent = on_event or (lambda _: None)
    registry = Registry(places.models)
    folder = registry.local_root()
    model = registry.resolve(like) if isinstance(like, str) else like
    recipe = choose_recipe(
        model,
        {
            "mode": mode,
            "split": split,
            "group_by": group_by,
            "seed": seed,
            "epochs": epochs,
            "batch_size": batch_size,
            "target_recall": target_recall,
            "precision": precision,
            "positive": None if positive is None else _classes(positive),
        },
    )
    _check_workers(train_workers, gpus_per_worker, recipe.mode)
    named, data_name = _name(datasets, dataset_name)
    if model is not None and model.name != BUILTIN:
        name = name or model.name
    name = name or re.sub(r"[^A-Za-z0-9.-]+", "-", data_name).strip("-.")[:_LONGEST_NAME] or "crack"
    with registry.staging(name) as staged:
        require_training()
        asked = recipe.positive
        not_ours = {f"{test_set}=" for test_set in (test_sets or {}).keys() - named.keys()}
        ours = [cls for cls in asked if not cls.startswith(tuple(not_ours))]
        listed = find_datasets(named, ours, all_used=positive is not None)
        recipe = replace(recipe, positive=_told(listed))
        images = combine(listed)
        further = find_datasets(test_sets or {}, _anywhere(asked, test_sets or {}), all_used=False)
        _check_names(further)
        if recipe.split == "random":
            split_70_24_6(images.labels, recipe.seed)  # too few files are too few images
        weights_file = find_weights(places.weights)
        weights_sha256 = hashlib.sha256(weights_file.read_bytes()).hexdigest()
        software = installed_software()
        started = time.monotonic()
        cache = folder / ".features" if places.features is None else places.features.expanduser()

        def listen(event: TrainingEvent) -> None:
            tell(event)
            if model is not None and isinstance(event, DatasetRead):
                found = differences(model.card, event, weights_sha256, software)
                tell(RecipeRepeated(model.reference, found))

        fitted = fit_network(
            images,
            recipe,
            weights_file,
            workers,
            train_workers,
            gpus_per_worker,
            staged,
            cache,
            listen,
        )
        origin = Origin(
            data=data_name,
            images=images,
            recipe=recipe,
            weights=weights_file,
            weights_sha256=weights_sha256,
            software=software,
            command=_command(named, recipe),
            attribution=tuple(attribution),
        )
        try:
            card = write_version(staged, fitted, origin, further, started, int8=int8)
            version = registry.publish(name, staged, card)
        except OSError as fault:
            raise ModelError(
                f"The model cannot be written below {folder}: {fault.strerror}.",
                "Free space or choose another folder with --models; the training has to be run again.",
            ) from fault
    if promote:
        promote_version(registry, version)
    return version


def _name(datasets: Datasets, name: str | None) -> tuple[dict[str, Path | str], str]:
    """Name every data set, and all of them together."""
    if isinstance(datasets, Mapping):
        named = dict(datasets)
    else:
        given = [datasets] if isinstance(datasets, str | Path) else list(datasets)
        if len(given) == 1:
            place = Path(given[0]).expanduser().resolve()
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


def _classes(positive: str | Sequence[str]) -> tuple[str, ...]:
    return (positive,) if isinstance(positive, str) else tuple(positive)


def _told(listed: Mapping[str, LabelledImages]) -> tuple[str, ...]:
    """Say every data set's class of cracks, so that a card tells it without the data."""
    if len(listed) == 1:
        return tuple(images.positive for images in listed.values())
    return tuple(f"{name}={images.positive}" for name, images in sorted(listed.items()))


def _anywhere(asked: Iterable[str], test_sets: Iterable[str]) -> list[str]:
    """Let a class that means cracks in one set mean it in a test set that has it, too."""
    own = set(test_sets)
    return [cls if cls.partition("=")[0] in own else cls.partition("=")[2] or cls for cls in asked]


def _check_workers(train_workers: int | None, gpus: int, mode: str) -> None:
    if train_workers and (train_workers < 2 or mode != "finetune"):
        raise UsageError(
            f"{train_workers} training workers cannot share a training of mode {mode}.",
            "Give --train-workers 2 or more with --mode finetune, or leave it out to train in one process.",
        )
    if gpus not in (0, 1) or (gpus and not train_workers):
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
