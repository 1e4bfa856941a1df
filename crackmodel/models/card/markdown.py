"""A model's card for people, as Markdown."""

from __future__ import annotations

from crackmodel.models.card.card import Card, SplitScore


def card_to_markdown(card: Card) -> str:
    """Write data, metrics by set, threshold and limits."""
    lines = [
        f"# {card.name}@{card.version}",
        "",
        f"Trained ({card.training.mode}) on {card.data.train.images:,} images of `{card.data.name}`, "
        f"{card.data.train.cracks:,} with cracks, in {card.training.seconds:,.0f} s. "
        f"A tile is a crack from {card.threshold.value:.3f} on: {card.threshold.chosen}.",
        "",
        "| set | images | accuracy | precision | recall | F1 | AUROC |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, metrics in card.metrics.items():
        # Where there are no cracks to find, nothing but the accuracy means anything.
        found = (metrics.precision, metrics.recall, metrics.f1) if metrics.cracks else (None, None, None)
        cells = ("" if value is None else f"{value:.4f}" for value in (*found, metrics.auroc))
        lines.append(f"| {name} | {metrics.images:,} | {metrics.accuracy:.4f} | {' | '.join(cells)} |")
    if card.splits:
        lines += [
            "",
            "| split | scored | test images | near-duplicates in training | accuracy | AUROC |",
            "|---|---|---:|---:|---:|---:|",
            *map(_split_row, card.splits),
        ]
    if len(card.data.sets) > 1:
        lines += [
            "",
            "| data set | to learn from | validation | test | left out |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {each.name} | {each.train.images:,} | {each.validation.images:,} | {each.test.images:,} "
            f"| {each.unusable:,} |"
            for each in card.data.sets
        ]
    notes = list(card.limits)
    if card.int8 is not None:
        notes.append(f"int8: {'published' if card.int8.published else 'not published'}; {card.int8.reason}.")
    lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"


def _split_row(found: SplitScore) -> str:
    if found.test is None or found.near_duplicates is None:
        return f"| {found.kind} | not possible: {found.problem} | | | | |"
    auroc = "" if found.test.auroc is None else f"{found.test.auroc:.4f}"
    return (
        f"| {found.kind} | {found.model} | {found.test.images:,} | {found.near_duplicates:.1%} "
        f"| {found.test.accuracy:.4f} | {auroc} |"
    )
