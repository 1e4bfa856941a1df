"""A small survey drawn by code, to try scoring without photographs.

A dozen files of what surveys are made of: slabs with and without cracks, a twelve-megapixel picture, one that
lies on its side, positions, a PNG, close-ups, and files that are no photographs or only the beginning of one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from crackmodel.errors import UsageError
from crackmodel.surveys.drawing import draw_crack, draw_joint, draw_slab, wander

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
    """A sample on disk, and what scoring it must find.

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
    Another seed draws other pictures, with cracks in the same files.

    Raises:
        UsageError: The folder is neither missing nor empty nor a sample, or cannot be written.
    """
    directory = Path(directory).expanduser()
    try:
        _require_room(directory)
        # The notes come first: they mark even an interrupted sample as one.
        _write(directory / _NOTES, (_TITLE + _EXPLANATION).encode())
        for number, name in enumerate(_PICTURES, start=1):
            _write(directory / name, _draw(name, number, seed))
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
        cracked=tuple(sorted(name for name, picture in _PICTURES.items() if picture.cracks)),
        rejected=dict(_REJECTED),
    )


_REJECTED: Final = {
    "broken/empty.jpg": "empty",
    "broken/interrupted.jpg": "truncated",
    "broken/minutes.jpg": "mislabelled",
    _NOTES: "not_an_image",
}


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is drawn into one file, in this order.

    Attributes:
        cement: The slab's colour.
        cracks: Start, heading, length and width of each.
        region: Rows and columns that the cracks lie in: a mask of twelve megapixels would take seconds.
        joint: Row of a formwork joint.
        station: Where the camera stood along the bridge; None leaves the tags out.
        lying: Stored turned by a quarter, with the tag that says so.
    """

    height: int
    width: int
    cement: int
    cracks: tuple[tuple[tuple[float, float], float, float, float], ...] = ()
    region: tuple[slice, slice] = (slice(None), slice(None))
    joint: int | None = None
    station: int | None = None
    lying: bool = False
    quality: int = 80


_PICTURES: Final = {
    "deck/slab-01.jpg": _Picture(1080, 1440, 0, (((-10, 380), 0.15, 1550, 9),), station=0),
    "deck/slab-02.jpg": _Picture(1080, 1440, 1, station=1),
    "deck/slab-03.jpg": _Picture(
        1080, 1440, 2, (((420, -10), 1.45, 1150, 12), ((1450, 250), 2.6, 700, 6)), station=2
    ),
    "pier/column-01.jpg": _Picture(1440, 1080, 1, joint=610),
    "pier/column-02.jpg": _Picture(1440, 1080, 3, (((560, -10), 1.6, 1500, 8),), lying=True),
    "pier/north-face.jpg": _Picture(
        3000, 4000, 0, (((150, 100), 0.75, 2000, 11),), (slice(300, 2400), slice(1500, 3400)),
        joint=1240, station=3, quality=68,
    ),
    "pier/panel.png": _Picture(454, 681, 1, (((-5, 130), 0.3, 760, 9),)),
    "close-ups/patch-01.jpg": _Picture(227, 227, 2, (((70, -5), 1.2, 300, 10),)),
    "close-ups/patch-02.jpg": _Picture(227, 227, 0),
}  # fmt: skip


def _draw(name: str, number: int, seed: int) -> bytes:
    rng, picture = np.random.default_rng([seed, number]), _PICTURES[name]
    pixels = draw_slab(rng, picture.height, picture.width, picture.cement)
    if picture.joint is not None:
        draw_joint(rng, pixels, at=picture.joint)
    for start, heading, length, width in picture.cracks:
        draw_crack(rng, pixels[picture.region], wander(rng, start, heading, length, width))
    exif = Image.Exif() if picture.station is None else _exif(picture.station)
    if picture.lying:
        exif[ExifTags.Base.Orientation] = 6  # shown turned by a quarter clockwise, so stored the other way
        pixels = np.rot90(pixels)
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if name.endswith(".png"):
        image.save(stream, "PNG", compress_level=6)
    else:
        image.save(stream, "JPEG", quality=picture.quality, exif=exif)
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
