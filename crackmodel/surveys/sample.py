"""A small survey drawn by code: something to score before the first photograph is at hand.

A dozen files of what surveys are made of: slabs with and without cracks, a twelve-megapixel picture, one that
lies on its side, positions, a PNG, close-ups, and files that are no photographs or only the beginning of one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from crackmodel.errors import UsageError
from crackmodel.surveys.drawing import draw_crack, draw_joint, draw_slab, wander

__all__ = ["SampleSurvey", "write_sample"]

Pixels = npt.NDArray[np.uint8]

_NOTES: Final = "notes.txt"
_TITLE: Final = "Synthetic sample survey of crackmodel\n"
"""First line of the notes, by which a folder is known as a sample."""
_EXPLANATION: Final = """
Every picture here was drawn by code; none shows a real structure.
deck/        slabs from above, with positions along an imaginary bridge
pier/        upright faces; north-face.jpg has twelve megapixels, column-02.jpg is stored lying on its side
close-ups/   227-pixel patches, scored as one tile
broken/      what gets into surveys: an interrupted copy, an empty file, a text with the wrong extension
"""


@dataclass(frozen=True, slots=True)
class SampleSurvey:
    """A sample on disk and what is known about it.

    Attributes:
        directory: Where it lies.
        files: Every file of it, as POSIX paths below `directory`, sorted.
        cracked: Those that show a crack.
        rejected: Those that are no readable picture, with the reject code that a report gives them.
    """

    directory: Path
    files: tuple[str, ...]
    cracked: tuple[str, ...]
    rejected: Mapping[str, str]


def write_sample(directory: Path, seed: int = 7) -> SampleSurvey:
    """Draw the sample survey; one seed gives the same bytes every time.

    Files that are there already with the same content are not touched, so that a second scoring skips them.

    Args:
        directory: Folder to write to: missing, empty, or a sample written before.
        seed: Another seed draws other pictures, with cracks in the same files.

    Raises:
        UsageError: The folder holds something else, or cannot be written.
    """
    directory = Path(directory).expanduser()
    try:
        _require_room(directory)
        # The notes come first: they mark even an interrupted sample as one.
        for name, content in ((_NOTES, _notes()), *((name, draw(seed)) for name, draw in _PICTURES.items())):
            _write(directory / name, content)
        interrupted = (directory / "deck/slab-02.jpg").read_bytes()
        _write(directory / "broken/interrupted.jpg", interrupted[: len(interrupted) * 2 // 5])
        _write(directory / "broken/empty.jpg", b"")
        _write(
            directory / "broken/minutes.jpg", b"Minutes of the inspection meeting\n\n1. Access to span 3\n"
        )
    except OSError as error:
        raise UsageError(
            f"The sample cannot be written to {directory} ({error.strerror}).",
            "Choose a folder on a disk with 10 MB of room that you may write to.",
        ) from error
    return SampleSurvey(
        directory,
        files=tuple(sorted([_NOTES, *_PICTURES, *_REJECTED.keys() - {_NOTES}])),
        cracked=_CRACKED,
        rejected=dict(_REJECTED),
    )


_REJECTED: Final = {
    "broken/empty.jpg": "empty",
    "broken/interrupted.jpg": "truncated",
    "broken/minutes.jpg": "mislabelled",
    _NOTES: "not_an_image",
}
_CRACKED: Final = (
    "close-ups/patch-01.jpg",
    "deck/slab-01.jpg",
    "deck/slab-03.jpg",
    "pier/column-02.jpg",
    "pier/north-face.jpg",
    "pier/panel.png",
)


def _slab_01(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 1])
    pixels = draw_slab(rng, 1080, 1440, cement=0)
    draw_crack(rng, pixels, wander(rng, (-10, 380), 0.15, 1550, 9))
    return _jpeg(pixels, _exif(station=0))


def _slab_02(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 2])
    return _jpeg(draw_slab(rng, 1080, 1440, cement=1), _exif(station=1))


def _slab_03(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 3])
    pixels = draw_slab(rng, 1080, 1440, cement=2)
    draw_crack(rng, pixels, wander(rng, (420, -10), 1.45, 1150, 12))
    draw_crack(rng, pixels, wander(rng, (1450, 250), 2.6, 700, 6))
    return _jpeg(pixels, _exif(station=2))


def _column_01(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 4])
    pixels = draw_slab(rng, 1440, 1080, cement=1)
    draw_joint(rng, pixels, at=610)
    return _jpeg(pixels)


def _column_02(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 5])
    upright = draw_slab(rng, 1440, 1080, cement=3)
    draw_crack(rng, upright, wander(rng, (560, -10), 1.6, 1500, 8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # shown turned by a quarter clockwise, so stored turned the other way
    return _jpeg(np.rot90(upright), exif)


def _north_face(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 6])
    pixels = draw_slab(rng, 3000, 4000, cement=0)
    draw_joint(rng, pixels, at=1240)
    # Only the part with the crack: a mask of twelve megapixels would take seconds.
    region = pixels[300:2400, 1500:3400]
    draw_crack(rng, region, wander(rng, (150, 100), 0.75, 2000, 11))
    return _jpeg(pixels, _exif(station=3), quality=68)


def _panel(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 7])
    pixels = draw_slab(rng, 454, 681, cement=1)
    draw_crack(rng, pixels, wander(rng, (-5, 130), 0.3, 760, 9))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def _patch_01(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 8])
    pixels = draw_slab(rng, 227, 227, cement=2)
    draw_crack(rng, pixels, wander(rng, (70, -5), 1.2, 300, 10))
    return _jpeg(pixels)


def _patch_02(seed: int) -> bytes:
    return _jpeg(draw_slab(np.random.default_rng([seed, 9]), 227, 227, cement=0))


_PICTURES: Final[dict[str, Callable[[int], bytes]]] = {
    "close-ups/patch-01.jpg": _patch_01,
    "close-ups/patch-02.jpg": _patch_02,
    "deck/slab-01.jpg": _slab_01,
    "deck/slab-02.jpg": _slab_02,
    "deck/slab-03.jpg": _slab_03,
    "pier/column-01.jpg": _column_01,
    "pier/column-02.jpg": _column_02,
    "pier/north-face.jpg": _north_face,
    "pier/panel.png": _panel,
}


def _jpeg(pixels: Pixels, exif: Image.Exif | None = None, quality: int = 80) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(stream, "JPEG", quality=quality, exif=exif or Image.Exif())
    return stream.getvalue()


def _exif(station: int) -> Image.Exif:
    """Return a camera's tags: one picture every 12 metres and 95 seconds along an imaginary bridge."""
    taken = datetime(2024, 5, 14, 9, 30, 0) + timedelta(seconds=95 * station)
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Crackmodel"
    exif[ExifTags.Base.Model] = "Drawing Board"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.DateTimeOriginal: f"{taken:%Y:%m:%d %H:%M:%S}",
            ExifTags.Base.OffsetTimeOriginal: "+02:00",
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: _sexagesimal(Fraction("52.5163")),
            ExifTags.GPS.GPSLongitudeRef: "E",
            ExifTags.GPS.GPSLongitude: _sexagesimal(Fraction("13.3777") + station * Fraction("0.000177")),
            ExifTags.GPS.GPSAltitudeRef: b"\x00",
            ExifTags.GPS.GPSAltitude: IFDRational(345, 10),
        }
    )
    return exif


def _sexagesimal(degrees: Fraction) -> tuple[IFDRational, IFDRational, IFDRational]:
    whole, rest = divmod(degrees, 1)
    minutes, rest = divmod(rest * 60, 1)
    return IFDRational(int(whole)), IFDRational(int(minutes)), IFDRational(round(rest * 60 * 10_000), 10_000)


def _notes() -> bytes:
    return (_TITLE + _EXPLANATION).encode()


def _require_room(directory: Path) -> None:
    if directory.is_dir():
        notes = directory / _NOTES
        known = notes.is_file() and notes.read_bytes().startswith(_TITLE.encode())
        if known or not any(directory.iterdir()):
            return
    elif not directory.exists():
        return
    raise UsageError(
        f"{directory} holds something else than a sample survey.", "Name a folder that is empty or missing."
    )


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
