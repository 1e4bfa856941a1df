from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from crackmodel.errors import ImageRejected
from crackmodel.reports.schema import REJECT_CODES
from crackmodel.surveys.decoding import DecodeLimits, decode_image, identify

Pixels = npt.NDArray[np.uint8]
Encode = Callable[..., bytes]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}}


def rejection(data: bytes, **limits: int) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_image(data, DecodeLimits(**limits))
    assert caught.value.code in REJECT_CODES
    assert caught.value.detail
    return caught.value


def assert_pixels(pixels: Pixels) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous


def exif_with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# ---------------------------------------------------------------- what is an image


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_known_by_its_first_sixteen_bytes(kind: str, concrete: Pixels, encode: Encode) -> None:
    assert identify(encode(concrete, kind)[:16]) == kind.lower()


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_big_tiff_is_a_tiff(byte_order: str) -> None:
    mark = b"II" if byte_order == "<" else b"MM"
    assert identify(mark + struct.pack(byte_order + "HHHQ", 43, 8, 0, 16)) == "tiff"


@pytest.mark.parametrize(
    "content",
    [
        b"BMW 320i, parked under span 3\n",
        b"GIF89a" + bytes(20),
        b"%PDF-1.7\n" + bytes(20),
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"\x00",
        b"\xff\xd8",
        "Brücke".encode("utf-16"),
    ],
)
def test_what_is_no_photograph_is_rejected_as_not_an_image(content: bytes) -> None:
    assert identify(content[:16]) is None
    error = rejection(content)
    assert (error.code, error.stage) == ("not_an_image", "identify")
    assert error.detail.isprintable()


def test_an_empty_file_is_rejected_as_empty() -> None:
    assert rejection(b"").code == "empty"


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_the_exact_pixels(kind: str, concrete: Pixels, encode: Encode) -> None:
    pixels = decode_image(encode(concrete, kind, **LOSSLESS[kind]))
    assert_pixels(pixels)
    assert np.array_equal(pixels, concrete)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_a_jpeg_decodes_like_in_any_viewer(options: dict[str, Any], concrete: Pixels, encode: Encode) -> None:
    data = encode(concrete, "JPEG", quality=92, **options)
    pixels = decode_image(data)
    assert_pixels(pixels)
    viewer = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)
    assert np.abs(pixels.astype(int) - viewer).max() <= 2


def test_a_grey_jpeg_has_three_equal_channels(concrete: Pixels, encode: Encode) -> None:
    pixels = decode_image(encode(Image.fromarray(concrete).convert("L"), "JPEG"))
    assert_pixels(pixels)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_a_cmyk_jpeg_is_not_a_negative(concrete: Pixels, encode: Encode) -> None:
    # Pillow writes CMYK as Adobe does, inverted; a decoder that does not know shows dark as light.
    data = encode(Image.fromarray(concrete).convert("CMYK"), "JPEG", quality=95)
    pixels = decode_image(data)
    assert_pixels(pixels)
    assert np.abs(pixels[5:15, 5:25].astype(int) - concrete[5:15, 5:25]).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_pictures_are_black_and_white(kind: str, concrete: Pixels, encode: Encode) -> None:
    bits = Image.fromarray(concrete).convert("1")
    pixels = decode_image(encode(bits, kind))
    assert_pixels(pixels)
    assert np.array_equal(pixels[..., 0], np.asarray(bits).astype(np.uint8) * 255)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_palettes_become_colours(kind: str, concrete: Pixels, encode: Encode) -> None:
    palette = Image.fromarray(concrete).quantize(16)
    assert np.array_equal(decode_image(encode(palette, kind)), np.asarray(palette.convert("RGB")))


def test_transparency_becomes_white_paper(concrete: Pixels, encode: Encode) -> None:
    alpha = np.full((60, 90, 1), 255, np.uint8)
    alpha[:10] = 0
    alpha[10:20] = 51
    pixels = decode_image(encode(np.concatenate([concrete, alpha], axis=2), "PNG"))
    assert (pixels[:10] == 255).all()
    assert np.array_equal(pixels[20:], concrete[20:])
    fifth = 0.2 * concrete[10:20] + 0.8 * 255
    assert np.abs(pixels[10:20] - fifth).max() <= 1


def test_a_picture_of_many_bands_has_no_seams(
    monkeypatch: pytest.MonkeyPatch, concrete: Pixels, encode: Encode
) -> None:
    alpha = np.linspace(0, 255, 60, dtype=np.uint8)[:, None, None].repeat(90, axis=1)
    transparent = encode(np.concatenate([concrete, alpha], axis=2), "PNG")
    palette = encode(Image.fromarray(concrete).quantize(16), "PNG", transparency=3)
    whole = [decode_image(data) for data in (transparent, palette)]
    for band in (1, 90 * 7, 90 * 60):
        monkeypatch.setattr("crackmodel.surveys.decoding._BAND_PIXELS", band)
        assert all(map(np.array_equal, map(decode_image, (transparent, palette)), whole))


PEAK_OF_COMPOSITION = """
import re
from pathlib import Path
from PIL import Image
from crackmodel.surveys.decoding import _over_white

def peak():
    # Not getrusage: its peak begins with that of the process which started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

_over_white(Image.new("RGBA", (16, 16), (1, 2, 3, 4)))
picture = Image.new("RGBA", (6000, 4000), (1, 2, 3, 4))
before = peak()
_over_white(picture)
print((peak() - before) / (6000 * 4000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its own peak")
def test_transparency_costs_at_most_eight_bytes_a_pixel() -> None:
    child = subprocess.run(
        [sys.executable, "-c", PEAK_OF_COMPOSITION], capture_output=True, check=True, timeout=60
    )
    assert 2 < float(child.stdout) < 8


def test_a_transparent_palette_entry_becomes_white_paper(encode: Encode) -> None:
    palette = Image.new("P", (30, 20), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(1, (0, 0, 30, 10))
    pixels = decode_image(encode(palette, "PNG", transparency=0))
    assert (pixels[10:] == 255).all()
    assert (pixels[:10] == (200, 100, 50)).all()


def test_grey_with_alpha_decodes(encode: Encode) -> None:
    pixels = decode_image(encode(Image.new("LA", (20, 20), (100, 255)), "PNG"))
    assert (pixels == 100).all()


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_scaled_and_rounded(extension: str, channels: int) -> None:
    rng = np.random.default_rng(1)
    deep = rng.integers(0, 65536, (40, 50, channels), dtype=np.uint16)
    deep[0, :4, 0] = (0, 128, 129, 65535)  # 128/257 rounds down, 129/257 up; the high byte of both is 0
    if channels == 4:
        deep[..., 3] = 65535
    pixels = decode_image(cv2.imencode(extension, deep)[1].tobytes())
    assert_pixels(pixels)
    expected = np.rint(deep[..., :3].astype(float) * 255 / 65535).astype(np.uint8)
    assert np.array_equal(pixels, expected[..., ::-1] if channels > 1 else np.repeat(expected, 3, axis=2))


def test_sixteen_bit_transparency_becomes_white_paper() -> None:
    deep = np.full((20, 20, 4), 20_000, np.uint16)
    deep[..., 3] = 0
    assert (decode_image(cv2.imencode(".png", deep)[1].tobytes()) == 255).all()


def test_a_sixteen_bit_tiff_whose_zero_is_white_is_not_a_negative(encode: Encode) -> None:
    data = encode(Image.new("I;16", (20, 20), 1000), "TIFF", tiffinfo={262: 0})
    assert (decode_image(data) == 255 - 4).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_an_agreed_brightness_are_undecodable(mode: str, encode: Encode) -> None:
    error = rejection(encode(Image.new(mode, (30, 30), 7), "TIFF"))
    assert error.code == "undecodable"
    assert "export" in error.detail


def test_the_preview_of_a_raw_file_is_not_taken_for_the_picture(concrete: Pixels, encode: Encode) -> None:
    error = rejection(encode(concrete, "TIFF", tiffinfo={254: 1}))
    assert error.code == "undecodable"
    assert "preview" in error.detail


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_of_many_pictures_in_a_file_the_first_counts(kind: str, concrete: Pixels, encode: Encode) -> None:
    later = Image.fromarray(255 - concrete)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(concrete, kind, save_all=True, append_images=[later], **options)
    assert np.array_equal(decode_image(data), concrete)


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "CMYK", "PNG", "WEBP", "TIFF"])
def test_the_orientation_is_applied_exactly_once(
    kind: str, orientation: int, concrete: Pixels, encode: Encode
) -> None:
    picture = Image.fromarray(concrete).convert("CMYK" if kind == "CMYK" else "RGB")
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    data = encode(
        picture, "JPEG" if kind == "CMYK" else kind, exif=exif_with_orientation(orientation), **options
    )
    tagged = Image.fromarray(concrete)
    tagged.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged), dtype=int)
    pixels = decode_image(data)
    assert_pixels(pixels)
    assert pixels.shape == expected.shape
    for rows in (slice(4, 16), slice(-16, -4)):
        for columns in (slice(4, 16), slice(-16, -4)):
            assert np.abs(pixels[rows, columns] - expected[rows, columns]).max() < 40


def sixteen_bit_tiff(pixels: Pixels, orientation: int) -> bytes:
    """Write an uncompressed RGB TIFF by hand: no library at hand writes 16 bits and an orientation."""
    height, width = pixels.shape[:2]
    samples = (pixels.astype("<u2") * 257).tobytes()
    short, long = 3, 4
    directory = 8 + 6 + len(samples)
    entries = [
        (256, short, 1, width),
        (257, short, 1, height),
        (258, short, 3, 8),
        (259, short, 1, 1),
        (262, short, 1, 2),
        (273, long, 1, 14),
        (274, short, 1, orientation),
        (277, short, 1, 3),
        (278, short, 1, height),
        (279, long, 1, len(samples)),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHI3H", b"II", 42, directory, 16, 16, 16)
    return head + samples + struct.pack("<H", len(entries)) + table + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_sixteen_bit_tiff_is_turned_once_too(orientation: int, concrete: Pixels, encode: Encode) -> None:
    eight = decode_image(encode(concrete, "TIFF", tiffinfo={274: orientation}))
    assert np.array_equal(decode_image(sixteen_bit_tiff(concrete, orientation)), eight)


@pytest.mark.parametrize("scene", ["landscape", "portrait"])
def test_camera_files_of_all_orientations_show_one_scene(scene: str, shared_data: Path) -> None:
    folder = shared_data / "exif" / "orientation"
    upright = decode_image((folder / f"{scene}_1.jpg").read_bytes()).astype(int)
    for orientation in range(2, 9):
        pixels = decode_image((folder / f"{scene}_{orientation}.jpg").read_bytes())
        assert pixels.shape == upright.shape
        # They were compressed one by one, with the number drawn in: equal on the whole, not in each pixel.
        assert np.abs(pixels - upright).mean() < 25, orientation  # 43 and more if turned wrong


# ---------------------------------------------------------------- limits


def test_a_large_file_is_refused_by_its_bytes(concrete: Pixels, encode: Encode) -> None:
    assert rejection(encode(concrete, "PNG"), max_bytes=100).code == "too_many_bytes"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_alone_refuses_a_picture_with_too_many_pixels(
    kind: str, concrete: Pixels, encode: Encode
) -> None:
    data = encode(concrete, kind)
    error = rejection(data, max_pixels=60 * 90 - 1)
    assert (error.code, error.stage) == ("too_many_pixels", "identify")
    assert "90x60" in error.detail
    assert decode_image(data, DecodeLimits(max_pixels=60 * 90)).shape == (60, 90, 3)


def test_a_jpeg_bomb_is_refused_though_its_pixels_are_missing(concrete: Pixels, encode: Encode) -> None:
    data = bytearray(encode(concrete, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    assert rejection(bytes(data)).code == "too_many_pixels"


@pytest.mark.parametrize("kind", FORMATS)
def test_a_thumbnail_is_too_small(kind: str, concrete: Pixels, encode: Encode) -> None:
    assert rejection(encode(concrete[:15], kind)).code == "too_small"
    assert decode_image(encode(concrete[:16], kind)).shape == (16, 90, 3)


def test_a_tiff_above_pillows_own_limit_is_decoded_within_ours(
    concrete: Pixels, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for kind in ("TIFF", "PNG", "BMP"):
        assert np.array_equal(decode_image(encode(concrete, kind)), concrete), kind
    grey = Image.fromarray(concrete).convert("L")
    assert np.array_equal(decode_image(encode(grey, "TIFF"))[..., 1], np.asarray(grey))
    assert rejection(encode(concrete, "TIFF")[:-3000]).code == "truncated"
    assert rejection(encode(Image.new("F", (90, 60)), "TIFF")).code == "undecodable"


def test_a_webp_above_pillows_own_limit_has_too_many_pixels(
    concrete: Pixels, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(concrete, "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert rejection(data).code == "too_many_pixels"


# ---------------------------------------------------------------- broken files


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_rows": 1}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_a_file_cut_anywhere_is_truncated_or_still_whole(
    kind: str, options: dict[str, Any], concrete: Pixels, encode: Encode
) -> None:
    data = encode(concrete, kind, **options)
    whole = decode_image(data)
    codes: dict[str, int] = {}
    for end in range(40, len(data), max(1, len(data) // 200)):
        try:
            # A PNG's end chunk or a TIFF's directory of tags behind the pixels may go without loss.
            assert np.array_equal(decode_image(data[:end]), whole), end
        except ImageRejected as error:
            codes[error.code] = codes.get(error.code, 0) + 1
    assert codes.pop("truncated") > 150
    assert sum(codes.values()) == 0, codes


@pytest.mark.parametrize(
    "name", ["survey_photos/brighton_beach/DJI_0018.JPG", "survey_photos/wall_scenes/amostra2.jpg"]
)
def test_a_camera_file_cut_anywhere_is_rejected_as_truncated(name: str, shared_data: Path) -> None:
    data = (shared_data / name).read_bytes()
    # Behind the picture proper the drone appends a preview of 220 kB; losing that costs nothing.
    end = {"DJI_0018.JPG": 3_801_455, "amostra2.jpg": len(data)}[Path(name).name]
    for share in range(1, 40):
        assert rejection(data[: end * share // 40]).code == "truncated", share
    assert rejection(data[: end - 1]).code == "truncated"
    assert decode_image(data[:end]).shape == decode_image(data).shape


def test_a_card_that_read_zeros_leaves_a_truncated_picture(concrete: Pixels, encode: Encode) -> None:
    data = encode(concrete, "JPEG")
    assert rejection(data[: len(data) // 2] + bytes(len(data) // 2)).code == "truncated"


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}])
def test_a_download_closed_with_an_end_marker_is_still_truncated(
    options: dict[str, Any], concrete: Pixels, encode: Encode
) -> None:
    # The decoder paints the missing rows grey and reports success.
    textured = np.tile(concrete, (4, 4, 1))
    data = encode(textured, "JPEG", **options)
    assert rejection(data[: len(data) // 4] + b"\xff\xd9").code == "truncated"


def test_a_picture_that_really_ends_in_grey_is_no_truncated_one(encode: Encode) -> None:
    card = np.full((64, 64, 3), 128, np.uint8)
    card[:32] = 30
    for options in ({}, {"progressive": True}):
        assert (decode_image(encode(card, "JPEG", quality=100, **options))[-1] == 128).all()


@pytest.mark.parametrize("tail", [bytes(4096), b"\xff" * 100, b"\xff\xd8\xff\xe1\x00\x10second picture"])
def test_what_follows_the_end_of_a_jpeg_does_not_matter(
    tail: bytes, concrete: Pixels, encode: Encode
) -> None:
    data = encode(concrete, "JPEG")
    assert np.array_equal(decode_image(data + tail), decode_image(data))


def test_a_thumbnails_end_is_not_the_pictures_end(concrete: Pixels, encode: Encode) -> None:
    thumbnail = encode(concrete[:20, :20], "JPEG")
    data = encode(concrete, "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00" + thumbnail)
    assert decode_image(data).shape == (60, 90, 3)
    assert rejection(data[:-40]).code == "truncated"


def test_a_foreign_marker_inside_the_picture_is_undecodable(concrete: Pixels, encode: Encode) -> None:
    data = bytearray(encode(concrete, "JPEG"))
    data[-300:-298] = b"\xff\x3a"
    error = rejection(bytes(data))
    assert error.code == "undecodable"
    assert "FF3A" in error.detail


def test_thousands_of_scans_are_refused_before_they_cost_minutes(concrete: Pixels, encode: Encode) -> None:
    data = encode(concrete, "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    error = rejection(data[:-2] + data[scan:-2] * 600 + b"\xff\xd9")
    assert error.code == "undecodable"
    assert "scans" in error.detail


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\x00\x02" + bytes(30) + b"\xff\xd9",
        b"\xff\xd8\xff\xe0\x00\x00" + bytes(30),
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x40\x00\x40\x02\x01\x11\x00\xff\xda\x00\x02\x00\xff\xd9",
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x40\x00\x40\x03\x01\x11\x00\xff\xda\x00\x02\x00\xff\xd9",
    ],
)
def test_a_jpeg_without_a_picture_is_undecodable(content: bytes) -> None:
    assert rejection(content).code == "undecodable"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", [*FORMATS, "PROGRESSIVE", "CMYK", "LZW", "DEEP"])
def test_damage_never_raises_anything_but_a_rejection(kind: str, concrete: Pixels, encode: Encode) -> None:
    small = concrete[10:50, 15:75]
    if kind == "PROGRESSIVE":
        data = encode(small, "JPEG", progressive=True)
    elif kind == "CMYK":
        data = encode(Image.fromarray(small).convert("CMYK"), "JPEG")
    elif kind == "LZW":
        data = encode(small, "TIFF", compression="tiff_lzw")
    elif kind == "DEEP":
        data = cv2.imencode(".png", small.astype(np.uint16) * 257)[1].tobytes()
    else:
        data = encode(small, kind, exif=exif_with_orientation(6))
    dice = random.Random(kind)
    limits = DecodeLimits(max_pixels=1_000_000)
    outcomes = dict.fromkeys(("decoded", *REJECT_CODES), 0)
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(dice.choice((1, 2, 8))):
            # Half of the damage goes to the header, where the structure is.
            reach = dice.choice((64, len(damaged)))
            damaged[dice.randrange(min(reach, len(damaged)))] = dice.randrange(256)
        if dice.random() < 0.2:
            del damaged[dice.randrange(len(damaged)) :]
        try:
            assert_pixels(decode_image(bytes(damaged), limits))
            outcomes["decoded"] += 1
        except ImageRejected as error:
            outcomes[error.code] += 1
    assert outcomes["decoded"] < 480, outcomes


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize(
    "folder",
    ["metu/test/Positive", "metu/test/Negative", "sdnet2018/validation", "survey_photos", "mosaics", "exif"],
)
def test_every_real_file_decodes(folder: str, shared_data: Path) -> None:
    photographs = sorted(path for path in (shared_data / folder).rglob("*") if path.suffix.lower() == ".jpg")[
        :250
    ]
    assert photographs
    for path in photographs:
        pixels = decode_image(path.read_bytes())
        assert_pixels(pixels)
        with Image.open(path) as image:
            assert set(pixels.shape[:2]) == set(image.size), path.name
