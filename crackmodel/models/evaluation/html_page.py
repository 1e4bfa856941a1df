"""One self-contained HTML page with tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from crackmodel.models.card.card import Metrics, SplitScore
from crackmodel.models.card.metric_names import METRIC_NAMES, metric_text, number_text


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with its caption, which is also its alternative text."""

    path: Path
    caption: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column names the row, the others are numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def metrics_table(metrics: Mapping[str, Metrics]) -> Table:
    """Tabulate the metrics of sets with 95 % intervals."""
    shown = {
        "images": "images", "cracks": "of these cracks", **METRIC_NAMES,
        "false_negatives": "cracks missed", "false_positives": "false alarms",
    }  # fmt: skip
    rows = [
        [words, *(metric_text(each, field) for each in metrics.values())] for field, words in shown.items()
    ]
    return Table("Metrics, with 95 % bootstrap intervals", ["", *metrics], rows)


def splits_table(splits: Sequence[SplitScore]) -> Table:
    """Tabulate the scores on both ways of splitting."""
    problems = "".join(f"; {each.kind}: {each.problem}" for each in splits if each.problem)
    images, *scores = (
        [words, *("-" if each.test is None else metric_text(each.test, field) for each in splits)]
        for field, words in (("images", "images"), *METRIC_NAMES.items())
        if field in ("images", "accuracy", "f1", "auroc")
    )
    groups = ["groups", *(number_text(each.groups) for each in splits)]
    shares = ("-" if each.near_duplicates is None else f"{each.near_duplicates:.1%}" for each in splits)
    head = ["split", *(f"{each.kind}: {each.model}" for each in splits)]
    rows = [images, groups, ["with a near-duplicate in training", *shares], *scores]
    return Table(f"Test part of either split{problems}", head, rows)


def write_page(
    path: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    tables: Iterable[Table],
    pictures: Iterable[Picture],
) -> None:
    """Write the page, with styles and pictures in it and no script.

    Args:
        path: The HTML file.
        title: The heading.
        facts: What was evaluated, as name and value.
        tables: Numbers.
        pictures: PNG files, in this order.
    """
    body = [f"<h1>{_text(title)}</h1>", "<dl>"]
    body += [f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts]
    body.append("</dl>")
    body += [_table(table) for table in tables]
    body.append('<div class="pictures">')
    body += [_figure(picture) for picture in pictures]
    body.append("</div>")
    content = "\n".join(body)
    path.write_text(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n",
        encoding="utf-8",
    )


def _text(words: str) -> str:
    # File names may hold bytes that are no text.
    return escape(words.encode("utf-8", "replace").decode())


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.head)
    rows = "\n".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<h2>{_text(table.title)}</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    caption = _text(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .4rem } h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0 }
dt { color: #666 } dd { margin: 0 }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #e4e4e4 }
tbody th, thead th:first-child { text-align: left; font-weight: normal; color: #444 }
.pictures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; margin-top: 1.6rem }
figure { margin: 0; max-width: 100% } figure img { max-width: 100%; height: auto; display: block }
figcaption { color: #555; font-size: .9rem; max-width: 60ch }
"""
