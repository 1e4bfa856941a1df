"""Splits that do not lie: what belongs together stays in one part.

    random    images at random, alike in classes; only byte-identical files stay together
    grouped   whole groups: photographs or structures by name, or near-duplicates where no name is known

A test part that shows the same crack as the training part measures memory, not skill.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError, UsageError
from crackmodel.models.datasets import Split, split_70_24_6
from crackmodel.models.duplicates import cluster, near_duplicate_pairs, refuse_two_labels, share_with_twin

SHARES: Final = (0.70, 0.24, 0.06)
PARTS: Final = ("train", "validation", "test")

SplitKind = Literal["random", "grouped"]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How a data set is to be divided.

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
        """Refuse what makes no sense, before any work.

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
                f"--group-by {self.group_by!r} is no regular expression: {fault}.", _EXAMPLE
            ) from fault
        if not captures:
            raise UsageError(f"--group-by {self.group_by!r} has no capture group.", _EXAMPLE)


_EXAMPLE: Final = "Put parentheses around what names the photograph or structure: '/([^/_]+)_[0-9]+[.]jpg$'."


@dataclass(frozen=True, slots=True)
class Division:
    """A data set divided.

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
        rows = (self.split.train, self.split.validation, self.split.test)
        named = np.empty(sum(map(len, rows)), dtype=object)
        for part, members in zip(PARTS, rows, strict=True):
            named[members] = part
        return named.tolist()


def divide(
    rule: SplitRule,
    files: Sequence[str],
    sha256: Sequence[str],
    labels: npt.NDArray[np.integer],
    features: npt.NDArray[np.float32],
    groups: Sequence[str] | None = None,
) -> Division:
    """Divide a data set 70:24:6.

    Args:
        rule: How.
        files: Paths of the images.
        sha256: The hash of each file's content.
        labels: Integers [n], 1 for a crack.
        features: float32 [n, 1280] of the backbone, by which near-duplicates are known.
        groups: The data set's own groups.

    Returns:
        Parts that cover every row once; byte-identical files are in one part, and in a grouped split
        every group is. The same arguments give the same parts.

    Raises:
        DatasetError: A picture has two labels, an image has no group, or there are too few images or
            groups for three parts with both classes.
    """
    refuse_two_labels(files, sha256, labels)
    if rule.kind == "random":
        split, described, named = (
            _split_random(sha256, labels, rule.seed),
            "random, stratified, 70:24:6",
            None,
        )
    else:
        named, described = _name_groups(rule, files, sha256, features, groups)
        split = _split_groups(named, labels, rule.seed)
    near = share_with_twin(features, split.test, split.train)
    return Division(split, described, named, near)


def write_split(
    path: Path, division: Division, files: Sequence[str], sha256: Sequence[str], labels: Sequence[str]
) -> Path:
    """Write the split as Parquet: a row per image, with columns image, sha256, label, group, part.

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


def _split_random(sha256: Sequence[str], labels: npt.NDArray[np.integer], seed: int) -> Split:
    # Of byte-identical files the first is drawn and takes the others along. Without any, this is the
    # reference split to the row.
    _, firsts, twin_of = np.unique(np.asarray(sha256), return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    drawn = split_70_24_6(labels[firsts[order]], seed)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    unit = place[twin_of]
    train, validation, test = (
        np.flatnonzero(np.isin(unit, rows)) for rows in (drawn.train, drawn.validation, drawn.test)
    )
    return Split(train, validation, test)


def _name_groups(
    rule: SplitRule,
    files: Sequence[str],
    sha256: Sequence[str],
    features: npt.NDArray[np.float32],
    groups: Sequence[str] | None,
) -> tuple[tuple[str, ...], str]:
    if rule.group_by is not None:
        given, described = _groups_by(rule.group_by, files), f"by {rule.group_by}"
    elif groups is not None:
        given, described = list(groups), "by the data set's groups"
    else:
        given, described = list(files), "by near-duplicates"
    pairs = (
        near_duplicate_pairs(features) if described == "by near-duplicates" else np.empty((0, 2), np.int64)
    )
    members = cluster(len(files), [given, sha256], pairs)
    names = {int(member): given[row] for row, member in reversed(list(enumerate(members)))}
    return tuple(names[int(member)] for member in members), f"grouped {described}, 70:24:6"


def _groups_by(pattern: str, files: Sequence[str]) -> list[str]:
    expression = re.compile(pattern)
    found = [expression.search(file) for file in files]
    named = [match[1] if match else None for match in found]
    without = [file for file, name in zip(files, named, strict=True) if name is None]
    if without:
        raise DatasetError(
            f"--group-by {pattern!r} names no group for {len(without)} of {len(files)} images, "
            f"for example {without[0]}.",
            _EXAMPLE,
        )
    return [str(name) for name in named]


def _split_groups(groups: Sequence[str], labels: npt.NDArray[np.integer], seed: int) -> Split:
    """Give each group, large ones first, to the part where it does least harm to shares and classes."""
    names, member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    counts = np.stack(
        [np.bincount(member[labels == label], minlength=len(names)) for label in (0, 1)], axis=1
    ).astype(np.float64)
    wanted = np.maximum(np.outer(SHARES, counts.sum(axis=0)), 1e-9).tolist()
    have = [[0.0, 0.0] for _ in PARTS]
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    part_of = np.empty(len(names), np.int64)
    for group in order:
        size = counts[group].tolist()
        # The growth of chi-square, (have - wanted)^2 / wanted, summed over both classes.
        harm = [
            sum(n * (2 * (h - w) + n) / w for n, h, w in zip(size, have[part], wanted[part], strict=True))
            for part in range(len(PARTS))
        ]
        best = harm.index(min(harm))
        part_of[group] = best
        have[best] = [h + n for h, n in zip(have[best], size, strict=True)]
    if not _fill(part_of, counts):
        raise DatasetError(
            f"{len(labels)} images in {len(names)} groups cannot be split 70:24:6 with both classes in "
            f"each part; the largest group holds {int(counts.sum(axis=1).max())}.",
            "Use more or smaller groups, at least three with each class, or --split random.",
        )
    parts = part_of[member]
    train, validation, test = (np.flatnonzero(parts == part) for part in range(len(PARTS)))
    return Split(train, validation, test)


def _fill(part_of: Rows, counts: npt.NDArray[np.float64]) -> bool:
    """Give parts that lack a class the smallest group with it that another part can spare.

    With a dozen structures the small parts would stay empty: any group is too large for them. Small parts
    that are too large serve better than none.

    Args:
        part_of: int64 [groups], changed in place.
        counts: float64 [groups, 2], images of each class.

    Returns:
        Whether all parts have both classes now.
    """
    smallest = np.argsort(counts.sum(axis=1), kind="stable")
    for part in range(len(PARTS)):
        for label in (0, 1):
            for group in smallest:
                if counts[part_of == part, label].sum():
                    break
                rest = counts[part_of == part_of[group]].sum(axis=0) - counts[group]
                if part_of[group] != part and counts[group, label] and rest.all():
                    part_of[group] = part
    return all(counts[part_of == part].sum(axis=0).all() for part in range(len(PARTS)))
