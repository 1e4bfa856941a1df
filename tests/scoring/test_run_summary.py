"""What a run's summary says besides its counts."""

from __future__ import annotations

from crackmodel.reports.reading.run_statistics import TopImage
from crackmodel.scoring.result import RunResult
from crackmodel.scoring.run_summary import plain_summary


def summary(*top: tuple[str, float, float]) -> list[str]:
    """Of a run over images of a name, a highest probability and a share of tiles with cracks each."""
    cracks = sum(fraction > 0 for _, _, fraction in top)
    result = RunResult(
        run_id="20261125T020000Z-abcdef",
        survey="pier",
        uri="/photos/pier",
        report="/report",
        model="builtin@v3",
        listed=len(top),
        scored=len(top),
        cracks=cracks,
        clear=len(top) - cracks,
        rejected=0,
        reject_codes={},
        skipped=0,
        postponed=0,
        hidden=0,
        outside=0,
        misnamed=0,
        tiles=9 * len(top),
        seconds=1.0,
        top=tuple(TopImage("pier", name, p, f, 3, 3, 0) for name, p, f in top),
        too_many_rejected=False,
    )
    return plain_summary(result).splitlines()


def test_images_that_are_clear_by_little_are_named_after_those_with_cracks() -> None:
    lines = summary(("a.jpg", 1.0, 0.5), ("near.jpg", 0.989, 0.0), ("far.jpg", 0.2, 0.0))

    heading = lines.index("Clear, but not by much:")
    assert lines[heading + 1].split() == ["0.9890", "near.jpg"]
    assert lines.index("Most suspicious:") < heading
    assert not any("far.jpg" in line for line in lines)


def test_nothing_is_said_of_images_that_are_clear_by_far() -> None:
    lines = summary(("far.jpg", 0.2, 0.0))

    assert not any("far.jpg" in line or "not by much" in line for line in lines)
    assert lines[-1].startswith("Next:")
    assert "from runs where survey = 'pier'" in lines[-1]
