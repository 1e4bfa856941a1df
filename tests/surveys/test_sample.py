from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from crackmodel.errors import ImageRejected, UsageError
from crackmodel.surveys.decoding import decode_image
from crackmodel.surveys.drawing import draw_crack, draw_slab, wander
from crackmodel.surveys.exif import read_metadata
from crackmodel.surveys.listing import Survey, list_survey
from crackmodel.surveys.sample import SampleSurvey, write_sample


def digests(sample: SampleSurvey) -> dict[str, str]:
    return {name: hashlib.sha256((sample.directory / name).read_bytes()).hexdigest() for name in sample.files}


def test_a_sample_is_a_survey_of_exactly_its_files(sample: SampleSurvey) -> None:
    listing = list_survey(Survey.parse(sample.directory))
    assert tuple(listing.files["image"].to_pylist()) == sample.files
    assert set(sample.cracked) < set(sample.files)
    assert set(sample.rejected) < set(sample.files)
    assert not set(sample.cracked) & set(sample.rejected)
    assert sum(listing.files["bytes"].to_pylist()) < 8_000_000


def test_what_is_said_to_be_rejected_is_rejected_and_nothing_else(sample: SampleSurvey) -> None:
    rejected = {}
    for name in sample.files:
        try:
            decode_image((sample.directory / name).read_bytes())
        except ImageRejected as error:
            rejected[name] = error.code
    # That a text is *called* a picture is known to whoever knows its name, not to the decoder.
    assert rejected == sample.rejected | {"broken/minutes.jpg": "not_an_image"}
    assert sample.rejected["broken/minutes.jpg"] == "mislabelled"


def test_only_cracked_pictures_have_a_crack_s_darkness(sample: SampleSurvey) -> None:
    for name in set(sample.files) - set(sample.rejected):
        pixels = decode_image((sample.directory / name).read_bytes())
        dark = float((pixels.mean(axis=2) < 60).mean())
        assert (dark > 2e-4) == (name in sample.cracked), (name, dark)


def test_a_sample_has_the_sizes_of_real_surveys(sample: SampleSurvey) -> None:
    shapes = {
        name: decode_image((sample.directory / name).read_bytes()).shape[:2]
        for name in ("pier/north-face.jpg", "pier/column-02.jpg", "close-ups/patch-01.jpg")
    }
    # column-02 is stored lying on its side.
    assert list(shapes.values()) == [(3000, 4000), (1440, 1080), (227, 227)]


def test_a_sample_carries_time_place_and_camera(sample: SampleSurvey) -> None:
    claims = read_metadata((sample.directory / "deck/slab-02.jpg").read_bytes())
    assert claims.captured_at == datetime(2024, 5, 14, 7, 31, 35, tzinfo=UTC)
    assert claims.latitude == pytest.approx(52.5163, abs=1e-7)
    assert claims.longitude == pytest.approx(13.377877, abs=1e-7)
    assert claims.altitude == 34.5
    assert claims.camera == "Crackmodel Drawing Board"


def test_a_seed_draws_the_same_bytes_and_another_seed_draws_others(
    sample: SampleSurvey, tmp_path: Path
) -> None:
    assert digests(write_sample(tmp_path / "again")) == digests(sample)
    other = digests(write_sample(tmp_path / "other", seed=8))
    drawn = [name for name in sample.files if name not in sample.rejected]
    assert not [name for name in drawn if other[name] == digests(sample)[name]]


def test_writing_a_sample_again_touches_no_file_but_repairs_a_broken_one(tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "survey")
    before = {name: (sample.directory / name).stat().st_mtime_ns for name in sample.files}
    (sample.directory / "deck/slab-01.jpg").write_bytes(b"half a copy")
    again = write_sample(tmp_path / "survey")
    assert again == sample
    after = {name: (sample.directory / name).stat().st_mtime_ns for name in sample.files}
    assert [name for name in sample.files if after[name] != before[name]] == ["deck/slab-01.jpg"]
    assert decode_image((sample.directory / "deck/slab-01.jpg").read_bytes()).shape == (1080, 1440, 3)


@pytest.mark.parametrize("occupant", ["photo.jpg", "notes.txt"])
def test_a_folder_with_something_else_in_it_is_left_alone(occupant: str, tmp_path: Path) -> None:
    (tmp_path / occupant).write_bytes(b"mine")
    with pytest.raises(UsageError, match="something else"):
        write_sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [occupant]


def test_a_file_is_no_place_for_a_sample(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UsageError, match="something else"):
        write_sample(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be written"):
        write_sample(tmp_path / "file" / "below")


def test_a_drawn_crack_is_darker_than_the_slab_and_lies_on_its_course() -> None:
    rng = np.random.default_rng(1)
    slab = draw_slab(rng, 300, 400)
    cracked = slab.copy()
    cracks = wander(rng, (20, 150), 0.0, 360, 10)
    draw_crack(rng, cracked, cracks)
    course = [(x, y) for x, y in np.rint(cracks[0].points).astype(int) if 0 <= x < 400 and 0 <= y < 300]
    assert len(course) > 50
    assert np.mean([slab[y, x].mean() - cracked[y, x].mean() for x, y in course]) > 60
    assert 4 <= cracks[0].widths[:60].mean() <= 14
    untouched = (slab == cracked).all(axis=2)
    assert untouched.mean() > 0.8
