"""The summary of the data sets of a training."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from crackmodel.errors import DatasetError
from crackmodel.models.card.card import DataRecord, Part, SetRecord
from crackmodel.models.datasets.labelled import BadFile, fingerprint
from crackmodel.models.datasets.several import TrainingImages
from crackmodel.models.datasets.splits import PARTS, Division
from crackmodel.text import printable

Rows = npt.NDArray[np.int64]


_SHOWN_FILES: Final = 3


@dataclass(frozen=True, slots=True)
class DatasetRead:
    """Every file of the data sets has been opened.

    Attributes:
        usable: How many are pictures.
        bad: The others, which are left out.
        fingerprints: Over names, contents and labels of the usable ones, by data set.
    """

    usable: int
    bad: tuple[BadFile, ...]
    fingerprints: Mapping[str, str]

    @property
    def text(self) -> str:
        """How many files were read, how many are left out, and why the first of these."""
        if not self.bad:
            return f"{self.usable:,} images"
        shown = "; ".join(printable(f"{each.file}: {each.reason}") for each in self.bad[:_SHOWN_FILES])
        more = f"; and {len(self.bad) - _SHOWN_FILES:,} more" if len(self.bad) > _SHOWN_FILES else ""
        left_out = "1 file is" if len(self.bad) == 1 else f"{len(self.bad):,} files are"
        return f"{self.usable:,} images; {left_out} left out: {shown}{more}"


def summarise_dataset(
    images: TrainingImages, kept: Rows, sha256: Sequence[str], bad: Sequence[BadFile]
) -> DatasetRead:
    """Summarise data sets; refuse a class without a usable picture.

    Args:
        images: All that were listed.
        kept: int64 [n], places of the usable ones.
        sha256: The hash of each of these.
        bad: The others.

    Returns:
        Counts, every file that was left out under its name in `images.names`, and fingerprints by data set.

    Raises:
        DatasetError: A class of a data set holds no picture.
    """
    named = dict(zip(images.files, images.names, strict=True))
    left_out = tuple(BadFile(named[each.file], each.reason) for each in bad)
    usable = np.bincount(images.strata[kept], minlength=2 * len(images.members))
    if not usable.all():
        stratum = int(np.argmin(usable))
        member = images.members[stratum // 2]
        missing = member.positive if stratum % 2 else member.negative
        inside = [images.names[place] for place in np.flatnonzero(images.strata == stratum)]
        reason = next(each.reason for each in left_out if each.file == inside[0])
        raise DatasetError(
            f"None of the {len(inside)} files of the class {missing} of {member.name} is a usable picture; "
            f"{inside[0]}: {reason}.",
            "Give each class some JPEG, PNG, TIFF, BMP or WebP images.",
        )
    good, fingerprints = images.take(kept), {}
    for number, each in enumerate(images.members):
        rows = np.flatnonzero(good.member == number).tolist()
        prefix = f"{each.name}/" if len(images.members) > 1 else ""
        files = [good.names[row].removeprefix(prefix) for row in rows]
        fingerprints[each.name] = fingerprint(files, [sha256[row] for row in rows], good.labels[rows])
    return DatasetRead(len(kept), left_out, fingerprints)


def describe_data(
    name: str,
    images: TrainingImages,
    sha256: Sequence[str],
    division: Division,
    seed: int,
    dataset: DatasetRead,
) -> DataRecord:
    """Compose the card's record of the data.

    Args:
        name: What the data are called.
        images: The usable ones.
        sha256: The hash of each of these.
        division: How these were divided.
        seed: Of the split.
        dataset: From `summarise_dataset`.
    """

    def parts(some: npt.NDArray[np.bool_]) -> dict[str, Part]:
        rows = {part: getattr(division.split, part) for part in PARTS}
        return {
            part: Part(int(some[of].sum()), int(images.labels[of][some[of]].sum()))
            for part, of in rows.items()
        }

    sets = []
    for number, each in enumerate(images.members):
        own = images.member == number
        sets.append(
            SetRecord(
                name=each.name,
                fingerprint=dataset.fingerprints[each.name],
                positive=each.positive,
                negative=each.negative,
                unusable=each.listed - int(own.sum()),
                **parts(own),
            )
        )
    return DataRecord(
        name=name,
        fingerprint=fingerprint(images.names, sha256, images.labels),
        positive=images.positive,
        negative=images.negative,
        unusable=len(dataset.bad),
        duplicates=len(sha256) - len(set(sha256)),
        split=division.described,
        seed=seed,
        groups=division.group_count,
        near_duplicates=round(division.near_duplicates, 4),
        sets=tuple(sets),
        **parts(np.ones(len(sha256), bool)),
    )


def write_bad_files(path: Path, bad: Sequence[BadFile]) -> None:
    """Write the files that were left out, with reasons, as CSV."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "reason"])
        rows.writerows([each.file, each.reason] for each in bad)
