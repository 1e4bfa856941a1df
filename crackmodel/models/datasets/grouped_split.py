"""Groups of images, and splits made of whole groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError
from crackmodel.models.datasets.duplicates import cluster, near_duplicate_links
from crackmodel.models.datasets.labelled import Split

SHARES: Final = (0.70, 0.24, 0.06)
"""Of the training, validation and test part."""

EXAMPLE: Final = "Put parentheses around what names the photograph or structure: '/([^/_]+)_[0-9]+[.]jpg$'."


def name_groups(
    group_by: str | None,
    files: Sequence[str],
    sha256: Sequence[str],
    features: npt.NDArray[np.float32],
    groups: Sequence[str] | None,
    ungrouped: npt.NDArray[np.bool_] | None,
) -> tuple[tuple[str, ...], str]:
    """Name the group of every image.

    Args:
        group_by: See `splits.SplitRule`.
        files: Names of the images.
        sha256: The hash of each file's content.
        features: float32 [n, 1280] of the backbone.
        groups: The data set's own groups.
        ungrouped: bool [n], images of which these say nothing.

    Returns:
        Each image's group, and in words how the groups were found.

    Raises:
        DatasetError: The expression finds no group in an image's name.
    """
    alike = np.empty(0, np.int64)
    if group_by is not None:
        given, described = groups_by(group_by, files), f"by {group_by}"
    elif groups is not None:
        given, described = list(groups), "by the data set's groups"
        if ungrouped is not None and ungrouped.any():
            alike = np.flatnonzero(ungrouped)
            described = "by the data sets' groups, where there are none by near-duplicates"
    else:
        given, described = list(files), "by near-duplicates"
        alike = np.arange(len(files))
    pairs = alike[near_duplicate_links(features[alike])]
    members = cluster(len(files), [given, sha256], pairs)
    names = {int(member): given[row] for row, member in reversed(list(enumerate(members)))}
    return tuple(names[int(member)] for member in members), described


def groups_by(pattern: str, files: Sequence[str]) -> list[str]:
    """Name each image's group by a regular expression.

    Args:
        pattern: Checked by `splits.SplitRule.check`.
        files: Names of the images.

    Raises:
        DatasetError: It finds nothing in some name.
    """
    expression = re.compile(pattern)
    found = [expression.search(file) for file in files]
    named = [match[1] if match else None for match in found]
    without = [file for file, name in zip(files, named, strict=True) if name is None]
    if without:
        raise DatasetError(
            f"--group-by {pattern!r} names no group for {len(without)} of {len(files)} images, "
            f"for example {without[0]}.",
            EXAMPLE,
        )
    return [str(name) for name in named]


def split_groups(
    groups: Sequence[str], labels: npt.NDArray[np.integer], seed: int, strata: npt.NDArray[np.integer]
) -> Split:
    """Divide groups so that shares and classes come out right.

    Large groups come first; each goes to the part where it adds least to the chi-square of shares and strata.

    Args:
        groups: Each image's group.
        labels: Integers [n], 1 for a crack.
        seed: Decides between equals.
        strata: Integers [n], what the parts are to be alike in.

    Returns:
        Three parts of whole groups.

    Raises:
        DatasetError: There are too few groups for three parts with both classes.
    """
    names, member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    counts = _count(member, labels, len(names), 2)
    spread = _count(member, strata, len(names), int(strata.max()) + 1)
    wanted = np.maximum(np.outer(SHARES, spread.sum(axis=0)), 1e-9).tolist()
    have = [[0.0] * spread.shape[1] for _ in SHARES]
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    part_of = np.empty(len(names), np.int64)
    for group in order:
        size = spread[group].tolist()
        # The growth of chi-square, (have - wanted)^2 / wanted, summed over classes and data sets.
        harm = [
            sum(n * (2 * (h - w) + n) / w for n, h, w in zip(size, have[part], wanted[part], strict=True))
            for part in range(len(SHARES))
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
    return Split(*(np.flatnonzero(parts == part) for part in range(len(SHARES))))


def _count(
    member: npt.NDArray[np.integer], kind: npt.NDArray[np.integer], groups: int, kinds: int
) -> npt.NDArray[np.float64]:
    """Count each group's images of each kind, float64 [groups, kinds]."""
    counts = np.bincount(member * kinds + kind, minlength=groups * kinds)
    return counts.reshape(groups, kinds).astype(np.float64)


def _fill(part_of: npt.NDArray[np.int64], counts: npt.NDArray[np.float64]) -> bool:
    """Give a part that lacks a class a small group of another part.

    With a dozen structures the small parts would stay empty: any group is too large for them. Small parts
    that are too large serve better than none.

    Args:
        part_of: int64 [groups], changed in place.
        counts: float64 [groups, 2], images of each class.

    Returns:
        Whether all parts have both classes now.
    """
    smallest = np.argsort(counts.sum(axis=1), kind="stable")
    for part in range(len(SHARES)):
        for label in (0, 1):
            for group in smallest:
                if counts[part_of == part, label].sum():
                    break
                rest = counts[part_of == part_of[group]].sum(axis=0) - counts[group]
                if part_of[group] != part and counts[group, label] and rest.all():
                    part_of[group] = part
    return all(counts[part_of == part].sum(axis=0).all() for part in range(len(SHARES)))
