from __future__ import annotations

import random
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from crackmodel.surveys.decoding import decode_image
from crackmodel.surveys.exif import ImageMetadata, read_metadata, read_orientation

Pixels = npt.NDArray[np.uint8]
Encode = Callable[..., bytes]

BERLIN = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (52.0, 30.0, 36.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (13.0, 22.5, 0.0),
}


def exif(
    base: dict[int, Any] | None = None,
    taken: dict[int, Any] | None = None,
    place: dict[int, Any] | None = None,
) -> Image.Exif:
    tags = Image.Exif()
    tags.update(base or {})
    tags.get_ifd(IFD.Exif).update(taken or {})
    tags.get_ifd(IFD.GPSInfo).update(place or {})
    return tags


@pytest.fixture
def claims(concrete: Pixels, encode: Encode) -> Callable[..., ImageMetadata]:
    """Write a JPEG with the given tags and read it back."""

    def read(**tags: dict[int, Any]) -> ImageMetadata:
        return read_metadata(encode(concrete, "JPEG", exif=exif(**tags)))

    return read


Claims = Callable[..., ImageMetadata]


# ---------------------------------------------------------------- real cameras


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "exif/gps/DSCN0010.jpg",
            # 43 deg 28' 2.814" N, 11 deg 53' 6.45599999" E
            ImageMetadata(
                captured_at=datetime(2008, 10, 22, 16, 28, 39, tzinfo=UTC),
                latitude=43 + 28 / 60 + 2.814 / 3600,
                longitude=11 + 53 / 60 + 6.45599999 / 3600,
                altitude=None,
                camera="NIKON COOLPIX P6000",
            ),
        ),
        (
            "survey_photos/caliterra/IMG_9354.jpg",
            ImageMetadata(
                captured_at=datetime(2014, 10, 19, 13, 20, 51, tzinfo=UTC),
                latitude=30 + 10.2734 / 60,
                longitude=-(98 + 5.3995 / 60),
                altitude=317.3,
                camera="Canon PowerShot SX260 HS",
            ),
        ),
        (
            "survey_photos/brighton_beach/DJI_0018.JPG",
            ImageMetadata(
                captured_at=datetime(2016, 6, 23, 16, 31, 59, tzinfo=UTC),
                latitude=46.842607083333334,
                longitude=-91.99455988888889,
                altitude=198.309,
                camera="DJI FC300S",
            ),
        ),
    ],
)
def test_the_claims_of_real_cameras(name: str, expected: ImageMetadata, shared_data: Path) -> None:
    found = read_metadata((shared_data / name).read_bytes())
    assert (found.captured_at, found.altitude, found.camera) == (
        expected.captured_at,
        expected.altitude,
        expected.camera,
    )
    assert found.latitude == pytest.approx(expected.latitude, abs=1e-6)
    assert found.longitude == pytest.approx(expected.longitude, abs=1e-6)


def test_every_drone_photograph_knows_its_place(shared_data: Path) -> None:
    for folder, (latitude, longitude) in {
        "caliterra": (30.17, -98.09),
        "brighton_beach": (46.84, -91.99),
    }.items():
        for path in (shared_data / "survey_photos" / folder).glob("*.[jJ][pP][gG]"):
            found = read_metadata(path.read_bytes())
            assert found.latitude == pytest.approx(latitude, abs=0.01)
            assert found.longitude == pytest.approx(longitude, abs=0.01)
            assert found.captured_at is not None
            assert found.camera is not None
            assert found.camera.isprintable()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_invalid_exif_gives_nulls_and_the_picture_still_decodes(shared_data: Path) -> None:
    paths = sorted((shared_data / "exif" / "invalid").glob("*.jpg"))
    assert len(paths) == 7
    for path in paths:
        data = path.read_bytes()
        assert read_metadata(data) == ImageMetadata()
        assert decode_image(data).size


def test_a_patch_without_exif_claims_nothing(shared_data: Path) -> None:
    path = next((shared_data / "metu" / "test" / "Positive").iterdir())
    assert read_metadata(path.read_bytes()) == ImageMetadata()


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_claims_are_read_from_every_format_that_has_them(kind: str, concrete: Pixels, encode: Encode) -> None:
    tags = exif(
        base={Base.Make: "Acme", Base.Model: "Eye 3"},
        taken={Base.DateTimeOriginal: "2024:05:06 07:08:09"},
        place=BERLIN,
    )
    found = read_metadata(encode(concrete, kind, exif=tags.tobytes()))
    assert found.captured_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert found.latitude == pytest.approx(52.51)
    assert found.longitude == pytest.approx(13.375)
    assert found.camera == "Acme Eye 3"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_picture_without_tags_claims_nothing(kind: str, concrete: Pixels, encode: Encode) -> None:
    assert read_metadata(encode(concrete, kind)) == ImageMetadata()


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\neXIf", b"II*\x00", b"notes"])
def test_what_is_no_picture_claims_nothing(content: bytes) -> None:
    assert read_metadata(content) == ImageMetadata()


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({Base.OffsetTimeOriginal: "+02:00"}, datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC)),
        ({Base.OffsetTimeOriginal: "-09:30"}, datetime(2024, 5, 6, 16, 38, 9, tzinfo=UTC)),
        ({Base.OffsetTimeOriginal: "Z"}, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ({Base.OffsetTimeOriginal: "+99:00"}, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ({Base.OffsetTimeOriginal: "   :  "}, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ({Base.OffsetTime: "+02:00"}, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ({Base.SubsecTimeOriginal: "25"}, datetime(2024, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)),
        ({Base.SubsecTimeOriginal: "123456789"}, datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)),
        ({Base.SubsecTimeOriginal: "  "}, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    ],
)
def test_an_offset_turns_the_clock_to_utc(tags: dict[int, Any], expected: datetime, claims: Claims) -> None:
    found = claims(taken={Base.DateTimeOriginal: "2024:05:06 07:08:09", **tags})
    assert found.captured_at == expected


def test_the_time_of_exposure_comes_before_other_times(claims: Claims) -> None:
    base, digitized = {Base.DateTime: "2024:01:01 00:00:00"}, {Base.DateTimeDigitized: "2023:01:01 00:00:00"}
    original = {Base.DateTimeOriginal: "2022:01:01 00:00:00"}
    years = [
        claims(base=base).captured_at,
        claims(base=base, taken=digitized).captured_at,
        claims(base=base, taken=digitized | original).captured_at,
        claims(base=base, taken=digitized | {Base.DateTimeOriginal: "0000:00:00 00:00:00"}).captured_at,
    ]
    assert [time.year for time in years if time] == [2024, 2023, 2022, 2023]


@pytest.mark.parametrize(
    "clock",
    [
        "0000:00:00 00:00:00",
        "0001:01:01 00:00:00",
        "2023:02:29 10:00:00",
        "2023:02:28 25:00:00",
        "    :  :     :  :  ",
        "yesterday",
        "",
    ],
)
def test_an_impossible_time_is_no_time(clock: str, claims: Claims) -> None:
    assert claims(taken={Base.DateTimeOriginal: clock}).captured_at is None


def test_a_time_before_the_first_year_is_no_time(claims: Claims) -> None:
    tags = {Base.DateTimeOriginal: "0001:01:01 00:00:00", Base.OffsetTimeOriginal: "+14:00"}
    assert claims(taken=tags).captured_at is None


# ---------------------------------------------------------------- place


@pytest.mark.parametrize(
    ("change", "latitude", "longitude"),
    [
        ({}, 52.51, 13.375),
        ({GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W"}, -52.51, -13.375),
        ({GPS.GPSLatitudeRef: "south"}, -52.51, 13.375),
        ({GPS.GPSLatitude: (90.0, 0.0, 0.0)}, 90.0, 13.375),
        ({GPS.GPSLatitude: (0.0, 0.0, 0.0)}, 0.0, 13.375),
        ({GPS.GPSLongitude: (180.0, 0.0, 0.0)}, 52.51, 180.0),
        ({GPS.GPSLatitude: (52.51,)}, 52.51, 13.375),
        ({GPS.GPSLatitude: (52.0, 30.6)}, 52.51, 13.375),
    ],
)
def test_a_possible_place_is_kept(
    change: dict[int, Any], latitude: float, longitude: float, claims: Claims
) -> None:
    found = claims(place=BERLIN | change)
    assert found.latitude == pytest.approx(latitude)
    assert found.longitude == pytest.approx(longitude)


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSLatitude: (90.0, 0.0, 1.0)},
        {GPS.GPSLongitude: (180.0, 0.0, 1.0)},
        {GPS.GPSLatitude: (IFDRational(52, 0), 30.0, 36.0)},
        {GPS.GPSLongitude: (13.0, IFDRational(0, 0), 0.0)},
        {GPS.GPSLatitude: (52.0, 75.0, 0.0)},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLongitudeRef: ""},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    ],
)
def test_an_impossible_place_is_no_place(change: dict[int, Any], claims: Claims) -> None:
    found = claims(base={Base.Model: "Eye"}, place=BERLIN | change)
    assert (found.latitude, found.longitude) == (None, None)
    assert found.camera == "Eye"


def test_half_a_place_is_no_place(claims: Claims) -> None:
    half = {tag: BERLIN[tag] for tag in (GPS.GPSLatitudeRef, GPS.GPSLatitude)}
    assert claims(place=half).latitude is None


@pytest.mark.parametrize(
    ("altitude", "reference", "expected"),
    [
        (IFDRational(345, 10), b"\x00", 34.5),
        (IFDRational(345, 10), b"\x01", -34.5),
        (IFDRational(345, 10), None, 34.5),
        (IFDRational(0, 0), b"\x00", None),
        (IFDRational(4_294_967_295, 1), b"\x00", None),
        (IFDRational(600, 1), b"\x01", None),
    ],
)
def test_altitude_is_above_or_below_the_sea_and_possible(
    altitude: IFDRational, reference: bytes | None, expected: float | None, claims: Claims
) -> None:
    place = {GPS.GPSAltitude: altitude}
    if reference is not None:
        place[GPS.GPSAltitudeRef] = reference
    assert claims(place=place).altitude == expected


# ---------------------------------------------------------------- camera


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("DJI", "FC220", "DJI FC220"),
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON", "Nikon D3", "Nikon D3"),
        ("  Acme \x00\x00junk", "Eye\t3 \n", "Acme Eye 3"),
        ("Acme", "", "Acme"),
        ("", "Eye", "Eye"),
        ("\x00\x00", "\x00", None),
    ],
)
def test_the_camera_is_make_and_model_without_padding(
    make: str, model: str, camera: str | None, claims: Claims
) -> None:
    assert claims(base={Base.Make: make, Base.Model: model}).camera == camera


# ---------------------------------------------------------------- orientation and damage


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("value", "expected"), [(1, 1), (6, 6), (8, 8), (0, 1), (9, 1), (65535, 1)])
@pytest.mark.parametrize("kind", [3, 4])
def test_the_orientation_tag_is_read_in_both_byte_orders(
    order: str, kind: int, value: int, expected: int
) -> None:
    number = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
    block = (
        (b"II" if order == "<" else b"MM")
        + struct.pack(order + "HIHHHI", 42, 8, 1, 0x0112, kind, 1)
        + number
        + bytes(4)
    )
    assert read_orientation(block) == expected
    assert read_orientation(b"Exif\x00\x00" + block) == expected


@given(st.one_of(st.none(), st.binary(), st.binary().map(lambda tail: b"II*\x00\x08\x00\x00\x00" + tail)))
@settings(deadline=None)
def test_any_bytes_have_an_orientation(block: bytes | None) -> None:
    assert 1 <= read_orientation(block) <= 8


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_tags_never_raise_and_never_claim_the_impossible(
    kind: str, concrete: Pixels, encode: Encode
) -> None:
    tags = exif(
        base={Base.Make: "Acme", Base.Model: "Eye 3", Base.Orientation: 6},
        taken={Base.DateTimeOriginal: "2024:05:06 07:08:09", Base.OffsetTimeOriginal: "+02:00"},
        place=BERLIN | {GPS.GPSAltitude: IFDRational(345, 10), GPS.GPSAltitudeRef: b"\x00"},
    )
    data = encode(concrete[:20, :20], kind, exif=tags.tobytes())
    start = max(data.find(mark) for mark in (b"Exif\x00\x00", b"eXIf", b"EXIF", b"II*\x00"))
    dice = random.Random(kind)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(dice.choice((1, 3, 10))):
            damaged[dice.randrange(start, min(start + 400, len(damaged)))] = dice.randrange(256)
        found = read_metadata(bytes(damaged))
        assert found.latitude is None or -90 <= found.latitude <= 90
        assert found.longitude is None or -180 <= found.longitude <= 180
        assert found.altitude is None or -500 <= found.altitude <= 10_000
        assert found.camera is None or found.camera.isprintable()
        assert found.captured_at is None or found.captured_at.tzinfo is UTC
