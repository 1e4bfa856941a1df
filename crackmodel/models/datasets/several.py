"""Several data sets, each with its own class names, as one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError, UsageError
from crackmodel.models.datasets.labelled import LabelledImages, find_images


@dataclass(frozen=True, slots=True)
class Member:
    """One of the data sets that are trained on together.

    Attributes:
        name: What it is called in the card.
        positive: Its class of cracks.
        negative: Its other class.
        grouped: Whether it says which images belong together.
        listed: How many files it lists, usable or not.
    """

    name: str
    positive: str
    negative: str
    grouped: bool
    listed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImages(LabelledImages):
    """The files of one or several data sets, not yet opened.

    `files` are relative to the folder that all sets have in common. `groups` is None where no set has
    groups; an image of a set without is a group of its own.

    Attributes:
        members: The data sets, by name.
        member: int64 [n], each file's data set.
        names: What to call each file: its own path, after its data set's name where there are several.
    """

    members: tuple[Member, ...]
    member: npt.NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def strata(self) -> npt.NDArray[np.int64]:
        """Number each file's data set and class, int64 [n]."""
        return self.member * 2 + self.labels

    @property
    def ungrouped(self) -> npt.NDArray[np.bool_]:
        """Mark the files whose data set has no groups, bool [n]."""
        return np.array([not member.grouped for member in self.members])[self.member]

    def take(self, places: npt.NDArray[np.int64]) -> TrainingImages:
        """Return the files at some places."""

        def some(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(values[place] for place in places)

        return replace(
            self,
            files=some(self.files),
            labels=self.labels[places],
            groups=None if self.groups is None else some(self.groups),
            member=self.member[places],
            names=some(self.names),
        )


def find_datasets(
    named: Mapping[str, Path | str], positive: Sequence[str] = (), *, all_used: bool = True
) -> dict[str, LabelledImages]:
    """List the images of data sets.

    Args:
        named: Folders or manifests by name: see `labelled.find_images`.
        positive: Classes that mean cracks: `CLASS` in every data set that has it, `NAME=CLASS` in one.
        all_used: Whether every class in `positive` has to occur.

    Returns:
        The images of each.

    Raises:
        UsageError: Two classes of one data set are said to mean cracks.
        DatasetError: A data set is none, it is not clear which class has cracks, or no set has a class
            of that name.
    """
    by_set: dict[str, str] = {}
    in_any_set: list[str] = []
    for text in positive:
        name, equals, cls = text.partition("=")
        if not equals or name not in named:
            in_any_set.append(text)
        elif by_set.setdefault(name, cls) != cls:
            raise UsageError(
                f"--positive names two classes of {name}, {by_set[name]} and {cls}.",
                "Name one for each data set.",
            )
    if len(named) == 1 and len(in_any_set) == 1 and not by_set and all_used:
        return {name: find_images(path, in_any_set[0]) for name, path in named.items()}
    found = {name: find_images(path, by_set.get(name), in_any_set) for name, path in named.items()}
    known = {cls for images in found.values() for cls in (images.positive, images.negative)}
    unknown = [cls for cls in in_any_set if cls not in known]
    if unknown and all_used:
        classes = "; ".join(f"{name}: {each.negative}, {each.positive}" for name, each in found.items())
        raise DatasetError(
            f"No data set has a class {unknown[0]!r}.",
            f"Say --positive CLASS or --positive NAME=CLASS with these names and classes: {classes}.",
        )
    return found


def combine(sets: Mapping[str, LabelledImages]) -> TrainingImages:
    """Combine data sets, in the order of their names.

    Args:
        sets: At least one, by name.

    Returns:
        All images, data set by data set in the order of their names.

    Raises:
        DatasetError: A folder is in two sets.
    """
    ordered = sorted(sets.items())
    roots = [Path(os.path.realpath(images.root)) for _, images in ordered]
    root = ordered[0][1].root if len(ordered) == 1 else Path(os.path.commonpath(roots))
    several = len(ordered) > 1
    files: list[str] = []
    names: list[str] = []
    groups: list[str] = []
    for (name, images), own_root in zip(ordered, roots, strict=True):
        inside = own_root.relative_to(root) if several else Path()
        files += [(inside / file).as_posix() for file in images.files]
        own_names = [f"{name}/{file}" if several else file for file in images.files]
        names += own_names
        groups += (
            own_names
            if images.groups is None
            else [f"{name}: {group}" if several else group for group in images.groups]
        )
    if len(set(files)) != len(files):
        twice, _ = Counter(files).most_common(1)[0]
        raise DatasetError(f"The file {twice} is in two data sets.", "Give each data set once.")
    members = tuple(
        Member(name, images.positive, images.negative, images.groups is not None, len(images.files))
        for name, images in ordered
    )
    return TrainingImages(
        root=root,
        files=tuple(files),
        labels=np.concatenate([images.labels for _, images in ordered]),
        positive=", ".join(dict.fromkeys(member.positive for member in members)),
        negative=", ".join(dict.fromkeys(member.negative for member in members)),
        groups=tuple(groups) if any(member.grouped for member in members) else None,
        members=members,
        member=np.repeat(np.arange(len(ordered)), [each.listed for each in members]),
        names=tuple(names),
    )
