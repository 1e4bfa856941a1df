"""The card of a model version: origin, metrics, and hashes of files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Record = TypeVar("Record")

CARD_FORMAT: Final = 1
TEST_OF: Final = "test:"
"""Before a data set's name: the metrics of its images in the test part."""


@dataclass(frozen=True, slots=True)
class Part:
    """Images of a part of a data set, and those with a crack."""

    images: int
    cracks: int


@dataclass(frozen=True, slots=True)
class SetRecord:
    """One of several training sets.

    Attributes:
        name: The data set's name; never a path of the machine it was trained on.
        fingerprint: Over file names within this set, contents and labels, so it is the same whatever the set
            was combined with: see `labelled.fingerprint`.
        positive: Name of the class of cracks.
        negative: Name of the other class.
        unusable: Files that are not pictures and were left out.
        train: Images the weights were fitted to.
        validation: Images that chose epoch, temperature and threshold.
        test: Images that chose nothing.
    """

    name: str
    fingerprint: str
    positive: str
    negative: str
    unusable: int
    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord(SetRecord):
    """The data that a model was trained on; of several sets, class names have commas between.

    Attributes:
        duplicates: Files whose bytes equal an earlier file's; they are kept.
        split: How the parts were made.
        seed: Of the split.
        groups: How many groups the split kept whole; null where images were divided one by one.
        near_duplicates: Share of the test images with a near-duplicate in the training part; null in
            cards from before it was measured.
        sets: The single data sets; empty in cards from before there could be several.
    """

    duplicates: int
    split: str
    seed: int
    groups: int | None = None
    near_duplicates: float | None = None
    sets: tuple[SetRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training part, counted from 1."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How a model was trained.

    Attributes:
        mode: `frozen` or `finetune`.
        command: The call that made it, with the data set's name for its place.
        hyperparameters: Everything that a second training needs to come out alike.
        weights: File name of the backbone's ImageNet weights.
        best_epoch: The epoch whose weights were kept.
        seconds: Wall time of everything, reading and evaluation included.
        parameters: Numbers in the network.
        recipe: A `recipe.Recipe`, for `crackmodel train --like`; empty in cards from before there was any.
    """

    mode: str
    command: str
    hyperparameters: Mapping[str, Any]
    weights: str
    weights_sha256: str
    best_epoch: int
    history: tuple[Epoch, ...]
    seconds: float
    parameters: int
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a metric lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a model does on one labelled set, at one threshold.

    `precision` is 0 where nothing was called a crack. Ranking metrics are null where the set has one
    class only. `intervals` holds 95 % bootstrap intervals by the name of the metric; it is empty, and the
    calibration error null, in cards from before these were measured.
    """

    images: int
    cracks: int
    threshold: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    auroc: float | None
    average_precision: float | None
    brier: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    expected_calibration_error: float | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SplitScore:
    """The score on the test part of one way of splitting.

    Attributes:
        kind: `random` or `grouped`.
        model: What was measured: this model, or a head on frozen features.
        split: How the parts were made; empty where they could not be.
        groups: How many groups were kept whole; null where images were divided one by one.
        near_duplicates: Share of the test images with a near-duplicate in the training part.
        test: On the test part, with temperature and threshold from the validation part.
        problem: Why the data cannot be split so.
    """

    kind: str
    model: str
    split: str = ""
    groups: int | None = None
    near_duplicates: float | None = None
    test: Metrics | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How softmax outputs become probabilities: log-odds divided by `temperature`."""

    method: str = "none"
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """The lowest probability of a crack verdict, and how it was chosen."""

    value: float
    chosen: str
    target_recall: float | None = None


@dataclass(frozen=True, slots=True)
class Int8Check:
    """The int8 model against the float model on one labelled set.

    Attributes:
        images: Compared.
        agreement: Share of images with the same verdict.
        accuracy: Of the int8 model.
        accuracy_change: Its accuracy minus the float model's; negative is worse.
    """

    images: int
    agreement: float
    accuracy: float
    accuracy_change: float


@dataclass(frozen=True, slots=True)
class Int8Record:
    """What became of the int8 model.

    Attributes:
        published: Whether the version has a `model-int8.tflite`.
        reason: Why, or why not.
        representative: Training images that the ranges of activations were taken from.
        sets: Measurements by set; empty where nothing was quantised.
    """

    published: bool
    reason: str
    representative: int = 0
    sets: Mapping[str, Int8Check] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OodRecord:
    """The threshold of out-of-distribution detection, and how it was chosen.

    Attributes:
        method: What the distance is.
        threshold: A tile with a greater distance is out of distribution.
        chosen: How the threshold was chosen.
        training_images: Images that the distance is measured from.
    """

    method: str
    threshold: float
    chosen: str
    training_images: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file of the version must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Card:
    """Everything known about a model version; `card.json`.

    Attributes:
        name: The model.
        version: Of the model: `v1`, `v2`, ...
        created_at: UTC, ISO 8601.
        architecture: The network in words.
        class_names: Order of the network's outputs.
        input_edge: Edge in pixels of the tile that the network sees.
        preprocess: The preprocessing's fingerprint.
        metrics: By set: `validation`, `test`, `test:NAME` for each of several data sets' images in the test
            part, and the names of further sets.
        export_difference: Largest difference in probability between LiteRT and Keras on real tiles.
        software: Versions of what made it.
        attribution: Whom to credit for data and weights.
        limits: What the model is known not to do.
        int8: Whether there is an int8 model and why; null in cards from before there was any.
        splits: Scores on either way of splitting, the training's own first; empty in cards from before these
            were measured.
        files: Every file of the version but the card itself.
        ood: The out-of-distribution threshold, which goes with `ood.npz`; null in cards from before it
            was measured.
    """

    name: str
    version: str
    created_at: str
    architecture: str
    class_names: tuple[str, ...]
    input_edge: int
    preprocess: str
    data: DataRecord
    training: TrainingRecord
    metrics: Mapping[str, Metrics]
    calibration: Calibration
    threshold: Threshold
    export_difference: float
    software: Mapping[str, str]
    attribution: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    int8: Int8Record | None = None
    splits: tuple[SplitScore, ...] = ()
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    ood: OodRecord | None = None
    format: int = CARD_FORMAT


def card_to_json(card: Card) -> str:
    """Write a card as indented JSON, with a newline at the end."""
    return json.dumps(dataclasses.asdict(card), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def card_from_json(text: str | bytes) -> Card:
    """Read a card.

    Fields that this version does not know are ignored, so that a newer card can be read.

    Raises:
        ValueError: Not JSON, a field is missing or of another type, or the format is a newer one.
    """
    loaded = json.loads(text)
    if isinstance(loaded, dict) and loaded.get("format", 0) != CARD_FORMAT:
        raise ValueError(f"card format {loaded.get('format')!r}, this software reads {CARD_FORMAT}")
    return record_from_json(Card, text, "card")


def record_from_json(kind: type[Record], text: str | bytes, where: str) -> Record:
    """Read a frozen dataclass, nested ones included; unknown fields are ignored.

    Args:
        kind: The dataclass.
        text: A JSON object with its fields; those with a default may be missing.
        where: The name of the whole in error messages.

    Raises:
        ValueError: Not JSON, or a field is missing or of another type; the message names it.
    """
    from pydantic import ValidationError  # not above: processes that read no card go without it

    try:
        record: Record = _adapter(kind).validate_json(text, strict=True)  # type: ignore[arg-type]
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        field_name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ValueError(f"{where}{field_name}: {first['msg']}") from fault
    return record


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
