"""A signal that comes while Ray scores stops the run as what its handler raised."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType

import pytest

from crackmodel import score_survey
from crackmodel.scoring.run_events import Event, RunPlanned
from crackmodel.surveys.sample import SampleSurvey

pytestmark = pytest.mark.integration


class OrderToStop(BaseException):
    """What Prefect raises on SIGTERM is of this kind: no `Exception`."""


def test_an_order_to_stop_is_not_taken_for_a_failure(
    embedded_ray: None, sample: SampleSurvey, tmp_path: Path
) -> None:
    survey, report = tmp_path / "bridge-07", str(tmp_path / "report")
    survey.mkdir()
    picture = sample.directory / min(set(sample.files) - set(sample.rejected))
    for number in range(6000):
        os.link(picture, survey / f"{number}.jpg")

    def order(_number: int, _frame: FrameType | None) -> None:
        raise OrderToStop

    def listen(event: Event) -> None:
        if isinstance(event, RunPlanned):
            signal.setitimer(signal.ITIMER_REAL, 3)  # it waits for its only shard then

    before = signal.signal(signal.SIGALRM, order)
    try:
        with pytest.raises(OrderToStop):
            score_survey(str(survey), report=report, workers=2, shard_images=6000, on_event=listen)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert score_survey(str(survey), report=report, workers=0, limit=1).listed == 6000
