"""Splits into training, validation and test part.

    random    images at random, alike in classes; only byte-identical files stay together
    grouped   whole groups: photographs or structures by name, or near-duplicates where no name is known

A test part that shows the same crack as the training part measures memory, not skill.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import UsageError
from crackmodel.models.datasets.duplicates import refuse_two_labels, share_with_twin
from crackmodel.models.datasets.grouped_split import EXAMPLE, name_groups, split_groups
from crackmodel.models.datasets.labelled import Split, split_70_24_6
from crackmodel.models.datasets.several import TrainingImages

if TYPE_CHECKING:
    from crackmodel.settings import SplitKind  # workers that turn images into features go without pydantic

PARTS: Final = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SplitRule:
    """The rule by which a data set is divided.

    Attributes:
        kind: `random` or `grouped`.
        group_by: Regular expression whose first capture group, found in an image's path, names its group.
            None takes the data set's own groups, or near-duplicates where it has none.
        seed: Decides between equals.
    """

    kind: SplitKind = "random"
    group_by: str | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse contradictory or malformed rules.

        Raises:
            UsageError: No such kind, or an expression that is none or captures nothing.
        """
        if self.kind not in ("random", "grouped"):
            raise UsageError(f"There is no split {self.kind!r}.", "Take random or grouped.")
        if self.group_by is None:
            return
        if self.kind != "grouped":
            raise UsageError("A random split has no groups.", "Add --split grouped, or leave --group-by out.")
        try:
            captures = re.compile(self.group_by).groups
        except re.error as fault:
            raise UsageError(
                f"--group-by {self.group_by!r} is no regular expression: {fault}.", EXAMPLE
            ) from fault
        if not captures:
            raise UsageError(f"--group-by {self.group_by!r} has no capture group.", EXAMPLE)


@dataclass(frozen=True, slots=True)
class Division:
    """The parts of a divided data set.

    Attributes:
        split: Rows of the three parts.
        described: The rule in words, for the card.
        groups: Each row's group; None where images were divided one by one.
        near_duplicates: Share of test images that look like one in the training part, 0..1.
    """

    split: Split
    described: str
    groups: tuple[str, ...] | None
    near_duplicates: float

    @property
    def group_count(self) -> int | None:
        """How many groups there are."""
        return None if self.groups is None else len(set(self.groups))

    def parts(self) -> list[str]:
        """Name each row's part."""
        rows = {part: getattr(self.split, part) for part in PARTS}
        named = np.empty(sum(map(len, rows.values())), dtype=object)
        for part, members in rows.items():
            named[members] = part
        return named.tolist()


def divide(
    rule: SplitRule,
    files: Sequence[str],
    sha256: Sequence[str],
    labels: npt.NDArray[np.integer],
    features: npt.NDArray[np.float32],
    groups: Sequence[str] | None = None,
    *,
    strata: npt.NDArray[np.integer] | None = None,
    ungrouped: npt.NDArray[np.bool_] | None = None,
) -> Division:
    """Divide a data set 70:24:6.

    Args:
        rule: How.
        files: Paths of the images.
        sha256: The hash of each file's content.
        labels: Integers [n], 1 for a crack.
        features: float32 [n, 1280] of the backbone, by which near-duplicates are known.
        groups: The data set's own groups.
        strata: Integers [n], each image's data set and class, where there are several sets: the parts are
            alike in these as far as possible. None takes the labels.
        ungrouped: bool [n], images whose data set has no groups while others' have: near-duplicates
            group them.

    Returns:
        Parts that cover every row once; byte-identical files are in one part, and in a grouped split
        every group is. The same arguments give the same parts.

    Raises:
        DatasetError: A picture has two labels, an image has no group, or there are too few images or
            groups for three parts with both classes.
    """
    refuse_two_labels(files, sha256, labels)
    if rule.kind == "random":
        named, described = None, "random, stratified, 70:24:6"
        split = _split_random(sha256, labels, rule.seed, strata)
    else:
        named, described = name_groups(rule.group_by, files, sha256, features, groups, ungrouped)
        described = f"grouped {described}, 70:24:6"
        split = split_groups(named, labels, rule.seed, labels if strata is None else strata)
    near = share_with_twin(features, split.test, split.train)
    return Division(split, described, named, near)


def divide_images(
    rule: SplitRule, images: TrainingImages, sha256: Sequence[str], features: npt.NDArray[np.float32]
) -> Division:
    """Divide the usable images of one or several data sets: see `divide`."""
    return divide(
        rule,
        images.names,
        sha256,
        images.labels,
        features,
        images.groups,
        strata=images.strata,
        ungrouped=images.ungrouped,
    )


def write_split(
    path: Path, division: Division, files: Sequence[str], sha256: Sequence[str], labels: Sequence[str]
) -> Path:
    """Write the split as Parquet, a row per image.

    Args:
        path: The file.
        division: What to write.
        files: Paths of the images.
        sha256: The hash of each file's content.
        labels: The name of each image's class.

    Returns:
        The path.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    table = pa.table(
        {
            # Names that are no text are kept readable rather than refused.
            "image": pa.array([file.encode("utf-8", "replace").decode() for file in files], text),
            "sha256": pa.array(sha256, text),
            "label": pa.array(labels, text),
            "group": pa.array(division.groups or [None] * len(files), text),
            "part": pa.array(division.parts(), text),
        }
    )
    pq.write_table(table, path, compression="zstd")
    return path


def _split_random(
    sha256: Sequence[str], labels: npt.NDArray[np.integer], seed: int, strata: npt.NDArray[np.integer] | None
) -> Split:
    # Of byte-identical files the first is drawn and takes the others along. Without any, this is the
    # reference split to the row.
    _, firsts, twin_of = np.unique(np.asarray(sha256), return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    first = firsts[order]
    drawn = split_70_24_6(labels[first], seed, None if strata is None else strata[first])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    unit = place[twin_of]
    return Split(*(np.flatnonzero(np.isin(unit, getattr(drawn, part))) for part in PARTS))
