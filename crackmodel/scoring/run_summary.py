"""A run's result as text, for a terminal and a Markdown artifact."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crackmodel.reports.reading.run_statistics import TopImage
from crackmodel.scoring.result import RunResult
from crackmodel.text import escaped, printable

_TOP_LINES = 5

_NEARLY = 0.5
"""Calibrated probability from which a crack is likelier than none, though the threshold may be higher."""


def plain_summary(result: RunResult) -> str:
    """Describe a run for a terminal, with the next command to type."""
    return "\n".join(_plain_lines(result))


def markdown_summary(result: RunResult) -> str:
    """Describe a run for a Prefect artifact or a chat message."""
    lines = [
        f"# {escaped(result.survey)}: {_headline(result)}",
        "",
        "| listed | crack | clear | rejected | skipped | postponed | tiles | seconds |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| {result.listed:,} | **{result.cracks:,}** | {result.clear:,} | {result.rejected:,} "
        f"| {result.skipped:,} | {result.postponed:,} | {result.tiles:,} | {result.seconds:.1f} |",
        "",
    ]
    if result.reject_codes:
        counts = ", ".join(f"{count:,} `{code}`" for code, count in result.reject_codes.items())
        lines += [f"Rejected: {counts}.", ""]
    if result.unfamiliar:
        named = ", ".join(escaped(image.image) for image in result.least_familiar[:_TOP_LINES])
        lines += [f"Unlike what the model was trained on: {result.unfamiliar:,} images, first {named}.", ""]
    lines += [
        f"- model `{result.model}`",
        f"- report {escaped(result.report)}",
        f"- run `{result.run_id}`",
    ]
    return "\n".join(lines)


def top_detections(result: RunResult) -> list[dict[str, Any]]:
    """List the most suspicious images as rows for a table."""
    return [
        {
            "image": printable(image.image),
            "crack probability": round(image.crack_probability, 4),
            "share of tiles": f"{image.crack_fraction or 0:.1%}",
        }
        for image in result.top
    ]


def _headline(result: RunResult) -> str:
    if not result.scored + result.rejected:
        return "nothing new"
    return f"{result.cracks:,} of {result.scored:,} images with cracks"


def _plain_lines(result: RunResult) -> Iterator[str]:
    yield f"{printable(result.survey)}: {_headline(result)}, model {result.model}, {result.seconds:.1f} s"
    yield (
        f"  {result.listed:,} listed = {result.scored:,} scored + {result.rejected_text} "
        f"+ {result.skipped:,} skipped" + (f" + {result.postponed:,} postponed" if result.postponed else "")
    )
    if result.tiles:
        yield f"  {result.tiles:,} tiles, {result.tiles / result.seconds:,.0f} tiles/s with start-up"
    for code, count in result.reject_codes.items():
        yield f"  rejected: {count:,} x {code}"
    ignored = {
        "hidden": result.hidden,
        "links that lead out of the survey": result.outside,
        "names that are not UTF-8": result.misnamed,
        "folders without a name (// in keys)": result.nameless,
    }
    if any(ignored.values()):
        yield "  ignored: " + ", ".join(f"{count:,} {what}" for what, count in ignored.items() if count)
    if result.moved:
        yield f"  moved: {result.moved:,} images of the report have other names now"
    if result.missing:
        yield f"  missing: {result.missing:,} images of the report are gone (vanished, with --mark-missing)"
    cracked = [image for image in result.top if image.crack_fraction][:_TOP_LINES]
    if cracked:
        yield "Most suspicious:"
    for image in cracked:
        tiles = (image.tile_rows or 0) * (image.tile_columns or 0)
        share = f"{image.crack_fraction:6.1%} of {tiles:,} tiles"
        yield f"  {image.crack_probability:6.4f}  {share:22} {printable(image.image)}"
    near = [image for image in result.top if not image.crack_fraction and _is_near(image)]
    if near[: _TOP_LINES - len(cracked)]:
        yield "Clear, but not by much:"
    for image in near[: _TOP_LINES - len(cracked)]:
        yield f"  {image.crack_probability:6.4f}  {'':22} {printable(image.image)}"
    if result.unfamiliar:
        what = "images look" if result.unfamiliar > 1 else "image looks"
        yield f"{result.unfamiliar:,} {what} unlike what the model was trained on; do not trust the verdict:"
    for odd in result.least_familiar[:_TOP_LINES]:
        share = f"{odd.ood_fraction:6.1%} of tiles, {odd.verdict}"
        yield f"  {odd.ood_score:6.2f}  {share:22} {printable(odd.image)}"
    yield f"Report: {result.report}"
    for number, query in enumerate(_queries(result)):
        # In double quotes: the survey's name is in single ones, and neither it nor the rest has others.
        command = f'{_program()} query "{query}" --report {shlex.quote(result.report)}'
        yield f"{'' if number else 'Next:':7} {command}"


def _is_near(image: TopImage) -> bool:
    return (image.crack_probability or 0) >= _NEARLY


def _queries(result: RunResult) -> Iterator[str]:
    """Yield useful queries about the survey."""
    survey = f"survey = '{result.survey}'"  # a name has no quotes: see `check_name`
    if result.cracks:
        where = f"crack and {survey} order by probability desc limit 20"
        yield f"select image, x0, y0, x1, y1, probability from tiles where {where}"  # noqa: S608 - is printed
    if result.rejected:
        yield f"select image, reject_code, reject_detail from rejected where {survey}"  # noqa: S608
    if not result.cracks + result.rejected:
        yield f"from runs where {survey}"


def _program() -> str:
    """Return the command as it can be typed here, PATH or not."""
    if shutil.which("crackmodel"):
        return "crackmodel"
    return shlex.quote(os.path.relpath(Path(sys.executable).with_name("crackmodel")))
