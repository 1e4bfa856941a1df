"""Metadata of a photograph: capture time, position, camera and orientation.

Cameras write wrong values, so each is range-checked and null rather than wrong; none rejects a picture.
Tags and types: CIPA DC-008 (Exif 2.32); TIFF 6.0 for the directory they lie in.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from crackmodel.surveys import jpeg_structure

_Tags = Mapping[int, Any]
_Value = TypeVar("_Value")

_ORIENTATION_TAG: Final = 0x0112
_SHORT, _LONG = 3, 4
_CLOCK: Final = re.compile(
    r"\s*(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})[ T]+(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?(?:\.(\d+))?"
)
_OFFSET: Final = re.compile(r"\s*(?:(Z)|([+-])(\d{2}):?(\d{2}))\s*$")
_TIMES: Final = (
    # The time tag, its sub-seconds and its offset from UTC, in order of trust.
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.SubsecTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.SubsecTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.SubsecTime, ExifTags.Base.OffsetTime),
)
_EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
"""Before this a camera's date is an unset clock (`0000:00:00`, `0001:01:01`); scanned slides come later."""
_ALTITUDES: Final = (-500.0, 10_000.0)
"""Metres above sea level of anything built: the Dead Sea shore is at -430, no bridge above 6,000."""


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """The metadata of one photograph; None where a value is missing or impossible.

    Attributes:
        captured_at: Time of exposure in UTC. A camera that records no offset from UTC has its clock's
            reading taken as UTC.
        latitude: Degrees north, -90 to 90 (WGS 84).
        longitude: Degrees east, -180 to 180 (WGS 84).
        altitude: Metres above sea level.
        camera: Make and model, such as `DJI FC220`.
    """

    captured_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    camera: str | None = None


def read_metadata(data: bytes, header: jpeg_structure.JpegHeader | None = None) -> ImageMetadata:
    """Read capture time, position and camera from a file's Exif tags; no pixel is decoded.

    JPEG, PNG, TIFF and WebP have them; a JPEG's header is read unless it is given. Broken tags are nulls,
    never an error.
    """
    exif = _guarded(lambda: _read_exif(data, header))
    if exif is None:
        return ImageMetadata()
    base: _Tags = _guarded(lambda: dict(exif)) or {}
    taken: _Tags = _guarded(lambda: exif.get_ifd(ExifTags.IFD.Exif)) or {}
    place: _Tags = _guarded(lambda: exif.get_ifd(ExifTags.IFD.GPSInfo)) or {}
    latitude, longitude = _position(place)
    return ImageMetadata(
        captured_at=_capture_time({**base, **taken}),
        latitude=latitude,
        longitude=longitude,
        altitude=_altitude(place),
        camera=_camera(base),
    )


def read_orientation(block: bytes | None) -> int:
    """Read the orientation of an Exif block, with or without its prefix, fast: every photograph needs it.

    Returns:
        1 to 8 as in Exif; 1 (upright) where the tag is missing or makes no sense.
    """
    if not block:
        return 1
    block = block.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == _ORIENTATION_TAG and kind in (_SHORT, _LONG):
                (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), block, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass  # the directory leads out of the block
    return 1


def _guarded(read: Callable[[], _Value | None]) -> _Value | None:
    """Return what `read` returns, or None where it fails."""
    try:
        return read()
    except Exception:
        # A fault in one directory of tags must not cost the others. Pillow's readers raise whatever hostile
        # bytes provoke: OSError, SyntaxError, struct.error, TypeError, KeyError, OverflowError, ...
        return None


def _read_exif(data: bytes, header: jpeg_structure.JpegHeader | None) -> Image.Exif | None:
    if data.startswith(b"\xff\xd8\xff"):
        block = (header or jpeg_structure.read_header(data)).exif
        if block is None:
            return None
        exif = Image.Exif()
        exif.load(b"Exif\x00\x00" + block)
        return exif
    # The plugins themselves, not Image.open: that would refuse large pictures, which are not decoded here.
    stream = io.BytesIO(data)
    if data.startswith(b"\x89PNG"):
        # Only the blocks before the pixels: an eXIf block behind them would cost the decoding.
        return PngImagePlugin.PngImageFile(stream).getexif() if b"eXIf" in data else None
    if data.startswith((b"II", b"MM")):
        return TiffImagePlugin.TiffImageFile(stream).getexif()
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and b"EXIF" in data:
        return WebPImagePlugin.WebPImageFile(stream).getexif()
    return None


def _capture_time(tags: _Tags) -> datetime | None:
    for clock, fraction, offset in _TIMES:
        found = _time(_text(tags.get(clock)), _text(tags.get(fraction)), _text(tags.get(offset)))
        if found is not None:
            return found
    return None


def _time(clock: str, fraction: str, offset: str) -> datetime | None:
    match = _CLOCK.match(clock)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    digits = match[7] or (fraction if fraction.isascii() and fraction.isdigit() else "")
    try:
        time = datetime(year, month, day, hour, minute, second, int(digits[:6].ljust(6, "0")), tzinfo=UTC)
        time -= _utc_offset(offset)
    except (ValueError, OverflowError):
        return None  # the 31st of February, 25 o'clock, the year 0
    return time if time >= _EARLIEST else None


def _utc_offset(text: str) -> timedelta:
    match = _OFFSET.match(text)
    if match is None or match[1]:
        return timedelta(0)
    offset = timedelta(hours=int(match[3]), minutes=int(match[4]))
    if offset > timedelta(hours=14):
        return timedelta(0)
    return -offset if match[2] == "-" else offset


def _position(place: _Tags) -> tuple[float | None, float | None]:
    """Return latitude and longitude, both or neither."""
    latitude = _angle(place.get(ExifTags.GPS.GPSLatitude), place.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
    longitude = _angle(
        place.get(ExifTags.GPS.GPSLongitude), place.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180
    )
    # A receiver without a fix writes zeros; the real point lies in the open Atlantic.
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None, None
    return latitude, longitude


def _angle(value: object, reference: object, signs: str, limit: int) -> float | None:
    """Return degrees from degrees, minutes, seconds and the letter of the sign."""
    letter = _text(reference)[:1].upper()
    if letter not in tuple(signs):
        return None
    # A camera that writes decimal degrees alone gives one rational, which Pillow does not wrap in a tuple.
    parts = [_number(part) for part in (value[:3] if isinstance(value, tuple) else (value,))]
    if not parts or any(part is None or part < 0 for part in parts):
        return None
    if any(part is not None and part > 60 for part in parts[1:]):
        return None
    degrees = math.fsum(part / 60**place for place, part in enumerate(parts) if part is not None)
    if degrees > limit:
        return None
    return -degrees if letter == signs[1] else degrees


def _altitude(place: _Tags) -> float | None:
    metres = _number(place.get(ExifTags.GPS.GPSAltitude))
    if metres is None:
        return None
    reference = place.get(ExifTags.GPS.GPSAltitudeRef)
    if reference in (1, b"\x01", "1"):
        metres = -abs(metres)
    return metres if _ALTITUDES[0] <= metres <= _ALTITUDES[1] else None


def _camera(tags: _Tags) -> str | None:
    make, model = _text(tags.get(ExifTags.Base.Make)), _text(tags.get(ExifTags.Base.Model))
    if model.casefold().startswith(make.casefold()):
        return model or None
    return f"{make} {model}".strip()


def _number(value: object) -> float | None:
    """Return a finite float; a rational with a zero denominator has no value."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    """Return text up to its first NUL (cameras pad with them), printable, on one line."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    kept = "".join(letter if letter.isprintable() else " " for letter in value.split("\x00", 1)[0])
    return " ".join(kept.split())
