"""Decode a file to upright 8-bit RGB pixels, or reject it with a reason.

JPEGs are all but the whole of a survey, and OpenCV decodes them fastest. Everything else goes through Pillow,
which knows about palettes, transparency and bit depths, and which notices a file that ends early. Sixteen-bit
colour is the exception: Pillow cuts the low bytes off there, so OpenCV delivers those pixels.

The rules that make pixels comparable, whatever file they came in:
- The Exif orientation is applied exactly once.
- Transparency is laid over white: cracks are dark, so what is not there must not look like one.
- 16 bits become 8 by `round(value * 255 / 65535)`.
- Of an animation or a multi-page file, the first picture counts. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from crackmodel.errors import ImageRejected
from crackmodel.surveys import jpeg_structure
from crackmodel.surveys.exif import ImageMetadata, read_metadata, read_orientation
from crackmodel.text import one_line

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What is refused before any pixel is decoded.

    Attributes:
        max_bytes: Largest file.
        max_pixels: Most pixels that the header may announce.
        min_edge: Shortest edge in pixels that can be classified.
    """

    max_bytes: int = 512 * 2**20
    max_pixels: int = 250_000_000
    min_edge: int = 16


DEFAULT_LIMITS: Final = DecodeLimits()

_SIGNATURE: Final = re.compile(
    rb"(?P<jpeg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<tiff>II[*+]\x00|MM\x00[*+])"
    rb"|(?P<webp>RIFF....WEBP)|(?P<bmp>BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c])",
    re.DOTALL,
)
"""`+` is BigTIFF. BM alone begins many a text, so the size of a BMP's information header has to follow."""
_PLUGINS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    # Not Image.open: it limits their size process-wide, and tries fifty other formats.
    "png": PngImagePlugin.PngImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
_BITS, _PHOTOMETRIC, _SUBFILE_TYPE = 258, 262, 254
_TIFF_DATA: Final = ((273, 279), (324, 325))
"""TIFF tags of the offsets and byte counts of strips, and of tiles."""
_BAND_PIXELS: Final = 2**20
"""Pixels that are converted at a time."""
_GREY: Final = 128
"""What a JPEG decoder paints where the data ran out: all coefficients zero."""

_TIFF_TYPE_SIZES: Final = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value by its TIFF type (TIFF 6.0, section 2); 1 for all others."""

_TURNS: Final[dict[int, Callable[[Pixels], npt.NDArray[Any]]]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""What makes a picture upright, by its Exif orientation."""


def identify(head: bytes) -> str | None:
    """Identify the format by a file's first 16 bytes, whatever its name.

    Returns:
        `jpeg`, `png`, `tiff`, `bmp` or `webp`; None for anything else.
    """
    match = _SIGNATURE.match(head)
    return None if match is None else match.lastgroup


def decode_image(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Pixels:
    """Decode a whole file to upright RGB pixels.

    Returns:
        uint8 [height, width, 3] RGB, C-contiguous, Exif orientation applied.

    Raises:
        ImageRejected: At stage `identify` with `empty`, `too_many_bytes`, `not_an_image`, `too_many_pixels`
            or `too_small`; at stage `decode` with `truncated` or `undecodable`. Nothing else is raised.
    """
    return _decode(data, limits)[0]


def read_photograph(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> tuple[Pixels, ImageMetadata]:
    """Decode a file as `decode_image` does, and read its metadata.

    A JPEG's header is walked once for both; for a patch twice would be half a percent of its scoring.

    Raises:
        ImageRejected: As `decode_image`; metadata never reject a picture.
    """
    pixels, header = _decode(data, limits)
    return pixels, read_metadata(data, header)


def _decode(data: bytes, limits: DecodeLimits) -> tuple[Pixels, jpeg_structure.JpegHeader | None]:
    if not data:
        raise ImageRejected("empty", "identify", "the file has no bytes")
    if len(data) > limits.max_bytes:
        raise ImageRejected(
            "too_many_bytes", "identify", f"{len(data):,} bytes; the limit is {limits.max_bytes:,}"
        )
    kind = identify(data[:16])
    if kind is None:
        raise ImageRejected("not_an_image", "identify", f"the content begins with {_excerpt(data)}")
    if kind == "jpeg":
        return _decode_jpeg(data, limits)
    return _decode_with_pillow(data, kind, limits), None


def _decode_jpeg(data: bytes, limits: DecodeLimits) -> tuple[Pixels, jpeg_structure.JpegHeader]:
    try:
        header = jpeg_structure.read_header(data)
        _check_size(header.width, header.height, limits)
        jpeg_structure.walk_scans(data, header.scan)
    except jpeg_structure.TruncatedJpegError as error:
        raise ImageRejected("truncated", "decode", str(error)) from None
    except jpeg_structure.JpegError as error:
        raise ImageRejected("undecodable", "decode", str(error)) from None
    pixels = _opencv(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise ImageRejected("undecodable", "decode", "the JPEG decoder failed")
    if _ran_dry(data, header, pixels):
        raise ImageRejected("truncated", "decode", "the picture's data end before its last pixel")
    return _upright(pixels, read_orientation(header.exif)), header


def _ran_dry(data: bytes, header: jpeg_structure.JpegHeader, pixels: Pixels) -> bool:
    """Whether the decoder painted grey because a scan ended early.

    An interrupted download that was closed with an end marker looks like that. Only pictures that end in
    exactly that grey are checked: a decoder that has all its data ignores bytes added behind them, one that
    needs more decodes them.
    """
    if pixels[-1, -1].tolist() != [_GREY] * 3 or (pixels[-8:, -8:] != _GREY).any():
        return False
    stop = jpeg_structure.scan_end(data, header.scan)
    longer = data[:stop] + bytes(range(1, 250)) * 4 + data[stop:]
    probe = _opencv(longer, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return probe is None or not np.array_equal(probe, pixels)


def _decode_with_pillow(data: bytes, kind: str, limits: DecodeLimits) -> Pixels:
    picture: ImageFile.ImageFile | None = None
    try:
        picture = _PLUGINS[kind](io.BytesIO(data))
        _check_size(*picture.size, limits)
        _check_meaning(picture)
        pixels = _load_rgb(picture, data)
        # A TIFF has no such block; both decoders turn it by its own tag, and cannot be asked not to.
        return _upright(pixels, read_orientation(picture.info.get("exif")))
    except ImageRejected:
        raise
    except Image.DecompressionBombError as error:
        # WebP alone: its plugin applies the process-wide limit (179 million pixels by default) even here.
        raise ImageRejected("too_many_pixels", "identify", one_line(error)) from None
    except Exception as error:
        # Pillow's decoders raise whatever hostile bytes provoke: OSError, SyntaxError, struct.error,
        # EOFError, TypeError, KeyError, OverflowError, MemoryError, ... It is one unreadable picture.
        code = "truncated" if _ends_early(data, kind, picture, error) else "undecodable"
        raise ImageRejected(code, "decode", one_line(error)) from None


def _load_rgb(picture: ImageFile.ImageFile, data: bytes) -> Pixels:
    """Decode an opened picture to uint8 [height, width, 3] RGB; a TIFF's orientation is applied, no other."""
    sixteen_bits = _has_sixteen_bits(picture)
    if not _exceeds_pillow(picture):
        # Also where OpenCV will deliver the pixels: only Pillow says that a file is cut short.
        picture.load()
        if picture.mode.startswith("I;16"):
            return _from_sixteen_bit_grey(picture)
        if not sixteen_bits or picture.mode == "CMYK":
            return _over_white(picture)
    return _over_white(Image.fromarray(_with_opencv(data)))


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageRejected(
            "too_many_pixels",
            "identify",
            f"the header announces {width}x{height} = {width * height:,} pixels; "
            f"the limit is {limits.max_pixels:,}",
        )
    if min(width, height) < limits.min_edge:
        raise ImageRejected(
            "too_small",
            "identify",
            f"{width}x{height} pixels; the shorter edge must be at least {limits.min_edge}",
        )


def _check_meaning(picture: ImageFile.ImageFile) -> None:
    """Refuse pictures whose numbers are no brightness, or that are not the picture."""
    if picture.mode in ("I", "F"):
        raise ValueError("32-bit and floating-point pixels have no agreed brightness; export 8 or 16 bits")
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.tag_v2.get(_SUBFILE_TYPE, 0) & 1:
        raise ValueError("the first picture is only a preview, as in a camera's raw file; export a JPEG")


def _has_sixteen_bits(picture: ImageFile.ImageFile) -> bool:
    """Whether samples have 16 bits; call before `load`, which hides it."""
    return any(";16" in str(tile.args) for tile in picture.tile)


def _exceeds_pillow(picture: ImageFile.ImageFile) -> bool:
    """Whether a TIFF within our own limit is too large for Pillow."""
    ceiling = Image.MAX_IMAGE_PIXELS
    too_large = ceiling is not None and picture.width * picture.height > ceiling
    return too_large and isinstance(picture, TiffImagePlugin.TiffImageFile)


def _from_sixteen_bit_grey(picture: ImageFile.ImageFile) -> Pixels:
    brightest, inverted = 65_535, False
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        brightest = 2 ** picture.tag_v2.get(_BITS, (16,))[0] - 1
        inverted = picture.tag_v2.get(_PHOTOMETRIC) == 0  # "white is zero", which Pillow heeds in 8 bits only
    grey = cv2.convertScaleAbs(np.asarray(picture, dtype=np.uint16), alpha=255 / brightest)
    colour = cv2.cvtColor(255 - grey if inverted else grey, cv2.COLOR_GRAY2RGB)
    return np.asarray(colour, dtype=np.uint8)


def _over_white(picture: Image.Image) -> Pixels:
    """Convert any 8-bit picture to RGB pixels, with white behind what is transparent."""
    pixels = np.empty((picture.height, picture.width, 3), dtype=np.uint8)
    rows = max(_BAND_PIXELS // picture.width, 1)
    for top in range(0, picture.height, rows):
        # Band by band: Pillow would hold a large picture five times, four bytes a pixel.
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        if picture.has_transparency_data:
            paper = Image.new("RGBA", band.size, "white")
            band = Image.alpha_composite(paper, band.convert("RGBA"))
        pixels[top : top + rows] = np.asarray(band.convert("RGB"))
    return pixels


def _with_opencv(data: bytes) -> Pixels:
    """Decode 8-bit or 16-bit samples to uint8 RGB or RGBA."""
    samples = _opencv(data, cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise ValueError("the decoder failed")
    if samples.dtype == np.uint16:
        samples = cv2.convertScaleAbs(samples, alpha=255 / 65_535)
    if samples.dtype != np.uint8:
        raise ValueError(f"{samples.dtype} pixels have no agreed brightness; export 8 or 16 bits")
    layouts = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    colour = cv2.cvtColor(samples, layouts[2 if samples.ndim == 2 else samples.shape[2]])
    return np.asarray(colour, dtype=np.uint8)


def _opencv(data: bytes, flags: int) -> npt.NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        return None


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror stored pixels by their Exif orientation, 1 to 8."""
    if orientation == 1:
        return pixels
    return np.asarray(_TURNS[orientation](pixels), dtype=np.uint8)


def _ends_early(data: bytes, kind: str, picture: ImageFile.ImageFile | None, error: Exception) -> bool:
    """Whether a file that a decoder failed on was cut short."""
    if "truncated" in str(error).lower():
        return True
    if kind == "png":
        return b"IEND" not in data
    if kind == "webp":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "bmp":
        return int.from_bytes(data[2:6], "little") > len(data)
    if kind == "tiff":
        return _tiff_ends_early(data, picture)
    return False


def _tiff_ends_early(data: bytes, picture: ImageFile.ImageFile | None) -> bool:
    """Whether the directory, values, strips or tiles of a TIFF lie past its end.

    BigTIFF (above 4 GB, or so they should be) is judged by its strips and tiles alone.
    """
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        tags = picture.tag_v2
        for offsets, sizes in _TIFF_DATA:
            ends = zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False)
            if any(offset + size > len(data) for offset, size in ends):
                return True
    order = "<" if data.startswith(b"II") else ">"
    try:
        version, directory = struct.unpack_from(order + "HI", data, 2)
        (count,) = struct.unpack_from(order + "H", data, directory)
        entries = [
            struct.unpack_from(order + "HHII", data, directory + 2 + 12 * number) for number in range(count)
        ]
    except struct.error:
        return True
    lengths = ((_TIFF_TYPE_SIZES.get(kind, 1) * number, place) for _, kind, number, place in entries)
    return version == 42 and any(length > 4 and place + length > len(data) for length, place in lengths)


def _excerpt(data: bytes) -> str:
    return data[:12].decode("ascii", "backslashreplace").encode("unicode_escape").decode("ascii")
