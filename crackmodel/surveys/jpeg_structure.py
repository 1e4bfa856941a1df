"""The structure of a JPEG file, read without decoding it.

Both the decoder and the metadata reader need a few bytes of the header of every file, and a photograph of
227 pixels decodes in 0.1 ms: opening an imaging library for the header would cost more than the pixels.
Marker numbers and segment layouts: ITU-T T.81, annex B; the Exif segment: CIPA DC-008 (Exif 2.32), 4.7.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_EXIF_HEADER: Final = b"Exif\x00\x00"
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15; the three left out are tables and a reserved code."""
_STANDALONE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Markers without a length: stuffing, TEM, RST0 to RST7, SOI."""
_APP1, _SOS, _EOI = 0xE1, 0xDA, 0xD9
_BETWEEN_SCANS: Final = frozenset({0xC4, 0xCC, _SOS, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
"""Segments that may follow a scan: tables, the next scan, DNL, restart interval, APPn, comment."""
_MAX_SCANS: Final = 500
"""libjpeg-turbo's own advice (`djpeg -maxscans 500`): thousands of empty scans cost minutes of decoding."""
_MARKER_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""What ends entropy-coded bytes: any marker but stuffing, restarts and fill bytes."""


class JpegError(ValueError):
    """The bytes do not have the structure of a JPEG."""


class TruncatedJpegError(JpegError):
    """The bytes end before the picture does."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG says before its first scan.

    Attributes:
        width: Pixels across, as stored (before any orientation is applied).
        height: Pixels down, as stored.
        scan: Offset of the first entropy-coded byte.
        exif: The TIFF block of the first Exif segment, None where there is none.
    """

    width: int
    height: int
    scan: int
    exif: bytes | None


def read_header(data: bytes) -> JpegHeader:
    """Read the segments of a JPEG up to its first scan.

    Raises:
        TruncatedJpegError: The data end inside the header.
        JpegError: There is no frame header before the scan.
    """
    frame: bytes | None = None
    exif: bytes | None = None
    position = 2
    while True:
        marker, start, end = _segment(data, position)
        if marker == _EOI:
            raise JpegError("the file holds tables but no picture")
        if marker in _FRAMES and frame is None:
            frame = data[start:end]
        elif marker == _APP1 and exif is None and data.startswith(_EXIF_HEADER, start):
            exif = data[start + len(_EXIF_HEADER) : end]
        elif marker == _SOS:
            break
        position = end
    if frame is None or len(frame) < 6:
        raise JpegError("the file has no frame header")
    return JpegHeader(
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        scan=end,
        exif=exif,
    )


def scan_end(data: bytes, scan: int) -> int:
    """Return the offset of the marker that ends the scan beginning at `scan`.

    Raises:
        TruncatedJpegError: No marker follows.
    """
    found = _MARKER_IN_SCAN.search(data, scan)
    if found is None:
        raise TruncatedJpegError("the file ends inside its picture")
    return found.start()


def walk_scans(data: bytes, scan: int) -> None:
    """Check that a JPEG is complete from its first scan to its end-of-image marker.

    Decoders fill what a broken scan does not deliver with grey and call it a success. What follows the
    end-of-image marker (a second picture of a stereo or multi-picture camera, padding) is not looked at.

    Raises:
        TruncatedJpegError: The data end before the end-of-image marker.
        JpegError: A marker stands where none may, or there are more scans than any encoder writes.
    """
    scans = 1
    position = scan_end(data, scan)
    while (marker := data[position + 1]) != _EOI:
        if marker not in _BETWEEN_SCANS:
            raise JpegError(f"a marker FF{marker:02X} interrupts the picture")
        scans += marker == _SOS
        if scans > _MAX_SCANS:
            raise JpegError(f"more than {_MAX_SCANS} scans")
        _, _, end = _segment(data, position)
        # After tables comes the next marker at once; searching for it also steps over a next scan's bytes.
        position = scan_end(data, end)


def _segment(data: bytes, position: int) -> tuple[int, int, int]:
    """Return the next marker, and where its payload starts and ends."""
    while True:
        # Stray bytes and fill bytes before a marker are legal enough that libjpeg skips them.
        position = data.find(0xFF, position)
        if position < 0 or position + 1 >= len(data):
            raise TruncatedJpegError("the file ends inside its header")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            break
    if marker == _EOI:
        return marker, position + 2, position + 2
    length = int.from_bytes(data[position + 2 : position + 4], "big")
    end = position + 2 + length
    if max(end, position + 4) > len(data):
        raise TruncatedJpegError("the file ends inside its header")
    if length < 2:
        raise JpegError(f"a segment FF{marker:02X} is shorter than its own length field")
    return marker, position + 4, end
