"""The shipped model, end to end, on twelve-megapixel pictures whose every tile is known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from crackmodel.reports.reading.query import open_report
from tests.scoring.conftest import Score


def test_tile_verdicts_on_the_mosaics_are_right(
    shared_data: Path, tmp_path: Path, report: Path, score: Score
) -> None:
    survey = tmp_path / "mosaics"
    survey.mkdir()
    for mosaic in (shared_data / "mosaics").glob("metu_mosaic_*.jpg"):
        shutil.copy(mosaic, survey)
    truth = pd.read_csv(shared_data / "mosaics" / "truth_tiles.csv")

    score(survey)
    tiles = open_report(report).sql("select image, x0, y0, x1, y1, crack as called from tiles").to_pandas()
    both = tiles.merge(truth, on=["image", "x0", "y0", "x1", "y1"], validate="one_to_one")

    assert len(both) == len(truth[truth["image"].str.startswith("metu")]) == 1_170
    found = (both["called"] & (both["crack"] == 1)).sum()
    assert found / (both["crack"] == 1).sum() >= 0.97
    assert found / both["called"].sum() >= 0.97
