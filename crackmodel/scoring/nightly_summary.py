"""A night as text, for a terminal and for Prefect's artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crackmodel.scoring.nightly import NightlyRun, SurveyOutcome
from crackmodel.text import escaped, printable

_IMAGES_EACH = 5


def plain_night(night: NightlyRun) -> str:
    """Describe a night for a terminal."""
    lines = [printable(outcome.headline) for outcome in night.outcomes]
    attention = _needing_attention(night)
    lines += ["", f"{len(attention)} of {len(night.outcomes)} surveys need attention."]
    for outcome in attention:
        lines += [f"  {printable(outcome.entry.name)}{_owner(outcome)}"]
        lines += [f"    {printable(reason)}" for reason in outcome.reasons]
        lines += [f"    {line}" for line in _image_lines(outcome)]
    return "\n".join(lines)


def markdown_night(night: NightlyRun) -> str:
    """Describe a night for a Prefect artifact, failures first."""
    attention = sorted(_needing_attention(night), key=lambda outcome: outcome.state != "failed")
    lines = [
        f"# {len(attention)} of {len(night.outcomes)} surveys need attention",
        "",
        f"{_totals(night)} Root {escaped(night.root)}.",
        "",
    ]
    columns = list(_row(night.outcomes[0])) if night.outcomes else []
    lines += [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 2)]
    for outcome in night.outcomes:
        lines += [f"| {' | '.join(escaped(str(value)) for value in _row(outcome).values())} |"]
    for outcome in attention:
        lines += ["", f"## {escaped(outcome.entry.name)}{escaped(_owner(outcome))}", ""]
        lines += [f"- {escaped(reason)}" for reason in outcome.reasons]
        lines += [f"- {escaped(outcome.catching_up)}"] if outcome.catching_up else []
        images = [f"    - {escaped(line)}" for line in _image_lines(outcome)]
        lines += ["- look first at", *images] if images else []
    return "\n".join(lines)


def night_rows(night: NightlyRun) -> list[dict[str, Any]]:
    """List the surveys as rows for a table."""
    return [_row(outcome) for outcome in night.outcomes]


def _needing_attention(night: NightlyRun) -> list[SurveyOutcome]:
    return [outcome for outcome in night.outcomes if outcome.reasons]


def _totals(night: NightlyRun) -> str:
    """Sum up the surveys that did not fail."""
    done = [(each.result, each.changes) for each in night.outcomes if each.result and each.changes]
    failed = len(night.outcomes) - len(done)
    failures = f"; {failed:,} {'survey' if failed == 1 else 'surveys'} failed" if failed else ""
    return (
        f"{sum(result.scored for result, _ in done):,} images scored, "
        f"{sum(changes.new_cracks for _, changes in done):,} new with cracks, "
        f"{sum(result.rejected for result, _ in done):,} rejected{failures}."
    )


def _owner(outcome: SurveyOutcome) -> str:
    return f" ({printable(outcome.entry.owner)})" if outcome.entry.owner else ""


def _row(outcome: SurveyOutcome) -> dict[str, Any]:
    result, changes = outcome.result, outcome.changes
    row: dict[str, Any] = {"survey": outcome.entry.name, "state": outcome.state}
    names = ("scored", "new cracks", "risen", "rejected", "not images", "unfamiliar", "drift", "seconds")
    if result is None or changes is None:
        return row | dict.fromkeys(names, "")
    drift = "" if changes.drift is None else f"{changes.drift:.2f}"
    values = (
        f"{result.scored:,}",
        f"{changes.new_cracks:,}",
        f"{changes.risen:,}",
        f"{result.rejected:,}",
        f"{result.not_images:,}",
        f"{changes.unfamiliar_share:.0%}",
        drift,
        f"{result.seconds:.0f}",
    )
    return row | dict(zip(names, values, strict=True))


def _image_lines(outcome: SurveyOutcome) -> Iterator[str]:
    if outcome.changes is None:
        return
    for image in outcome.changes.images[:_IMAGES_EACH]:
        before = "new" if image.before is None else f"{image.before:.2f} before"
        yield f"{image.probability:.2f} ({before}) {printable(image.image)}"
