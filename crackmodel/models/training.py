"""From labelled folders to a published model version.

    frozen:    images -> features once (Ray tasks) -> a softmax head on them -> assembled, checked, exported
    finetune:  images -> features -> head, as a start -> every layer on augmented tiles -> exported
               (in this process, or by several workers of Ray Train)

Nothing is augmented in frozen training and the backbone does not move, so ten epochs over pixels equal
ten over 1,280 remembered numbers an image.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from crackmodel.errors import ModelError, UsageError
from crackmodel.models.assessment import name_datasets
from crackmodel.models.card import TEST_OF
from crackmodel.models.combining import combine, find_datasets
from crackmodel.models.comparison import promote_version
from crackmodel.models.datasets import split_70_24_6
from crackmodel.models.evaluation import check_target_recall
from crackmodel.models.fitting import Mode, OnEvent, fit_network
from crackmodel.models.network import find_weights, require_training
from crackmodel.models.publishing import Origin, write_version
from crackmodel.models.registry import ModelVersion, Registry
from crackmodel.models.splitting import SplitKind, SplitRule

_LONGEST_NAME: Final = 80

Datasets = Path | str | Sequence[Path | str] | Mapping[str, Path | str]


def train_model(
    datasets: Datasets,
    *,
    mode: Mode = "frozen",
    split: SplitKind = "random",
    group_by: str | None = None,
    name: str | None = None,
    positive: str | Sequence[str] | None = None,
    weights: Path | str | None = None,
    models: Path | str = Path("models"),
    features: Path | str | None = None,
    epochs: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    workers: int | None = None,
    train_workers: int | None = None,
    target_recall: float | None = None,
    int8: bool = True,
    promote: bool = False,
    test_sets: Mapping[str, Path | str] | None = None,
    dataset_name: str | None = None,
    attribution: Sequence[str] = (),
    on_event: OnEvent | None = None,
) -> ModelVersion:
    """Train a model and publish it as the next version of `name`.

    The same data, arguments and machine give the same model. Keras', NumPy's and Python's global random
    generators are seeded on the way.

    Args:
        datasets: A folder with two class folders of images, or a CSV or Parquet manifest; several of
            these, also by the names they get in the card. Several are trained on together, split alike,
            and measured one by one as `test:NAME` too.
        mode: `frozen` trains a head on the features of the ImageNet backbone, in minutes; `finetune`
            trains every layer on augmented tiles and holds all tiles in memory (77 kB each).
        split: `random`, the 70:24:6 reference split, alike in classes, or `grouped`, which keeps the images
            of a group in one part.
        group_by: With `grouped`, see `splitting.SplitRule`.
        name: The model's name; the data set's if None.
        positive: Classes that mean cracks: `CLASS`, or `NAME=CLASS` for one of several data sets; recognised
            by their names if None.
        weights: ImageNet weights of the backbone; see `network.find_weights`.
        models: The registry's folder.
        features: Folder where features are kept for the next training on the same pictures; `.features` in
            the registry's folder if None.
        epochs: Passes over the training part, 10 if None; fine-tuning may stop earlier.
        batch_size: Images a step.
        seed: Of the split, the head's first weights, the order and the augmentation.
        workers: CPUs of an embedded Ray for the features, None for all; 0 works without Ray.
        train_workers: Processes that fine-tune together, a CPU of Ray's each; None or 0 fine-tunes in this
            process. On several nodes `models` has to be on a file system that all of them share.
        target_recall: Choose the threshold for this share of the validation part's cracks, in place of the
            best F1: see `evaluation.choose_threshold`.
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
        ModelExportFailed: The export is not equal to the network; nothing was published.
        ModelError: The registry cannot be written; or the version is published but not promoted, because
            the one in production is better.
        ClusterError: Ray failed.
    """
    # Everything that can be refused is refused before the hours of work.
    epochs = 10 if epochs is None else epochs
    rule = SplitRule(split, group_by, seed)
    rule.check()
    _check(mode, epochs, batch_size, train_workers)
    check_target_recall(target_recall)
    tell: OnEvent = on_event or (lambda _: None)
    registry = Registry(models)
    named, data_name = _name(datasets, dataset_name)
    name = name or re.sub(r"[^A-Za-z0-9.-]+", "-", data_name).strip("-.")[:_LONGEST_NAME] or "crack"
    with registry.staging(name) as staged:
        require_training()
        classes = [positive] if isinstance(positive, str) else list(positive or ())
        images = combine(find_datasets(named, classes))
        further = find_datasets(test_sets or {}, classes, all_used=False)
        _check_names(further)
        if rule.kind == "random":
            split_70_24_6(images.labels, seed)  # too few files are too few images
        weights_file = find_weights(weights)
        started = time.monotonic()
        cache = registry.root / ".features" if features is None else Path(features).expanduser()
        fitted = fit_network(
            images, mode, weights_file, epochs, batch_size, rule, workers, train_workers, staged, cache, tell
        )
        origin = Origin(
            data=data_name,
            images=images,
            mode=mode,
            rule=rule,
            weights=weights_file,
            command=_command(named, mode, rule, epochs, batch_size, target_recall),
            attribution=tuple(attribution),
        )
        try:
            card = write_version(
                staged, fitted, origin, further, started, int8=int8, target_recall=target_recall
            )
            version = registry.publish(name, staged, card)
        except OSError as fault:
            raise ModelError(
                f"The model cannot be written below {registry.root}: {fault.strerror}.",
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


def _check(mode: str, epochs: int, batch_size: int, train_workers: int | None) -> None:
    if mode not in ("frozen", "finetune"):
        raise UsageError(f"There is no training mode {mode!r}.", "Take frozen or finetune.")
    if epochs < 1 or batch_size < 1:
        raise UsageError(
            f"{epochs} epochs of batches of {batch_size} cannot be trained.", "Give at least 1 of each."
        )
    if train_workers and (train_workers < 2 or mode != "finetune"):
        raise UsageError(
            f"{train_workers} training workers cannot share a training of mode {mode}.",
            "Give --train-workers 2 or more with --mode finetune, or leave it out to train in one process.",
        )


def _command(
    named: Iterable[str],
    mode: str,
    rule: SplitRule,
    epochs: int,
    batch_size: int,
    target_recall: float | None,
) -> str:
    quoted = [f'"{name}"' for name in sorted(named)]
    data = quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
    split = "" if rule.kind == "random" else f'split="{rule.kind}", '
    split += "" if rule.group_by is None else f"group_by={rule.group_by!r}, "
    recipe = f"epochs={epochs}, batch_size={batch_size}, seed={rule.seed}"
    recipe += "" if target_recall is None else f", target_recall={target_recall:g}"
    return f'train_model({data}, mode="{mode}", {split}{recipe})'
