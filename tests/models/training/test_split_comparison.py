"""Scores on either way of splitting, side by side."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from crackmodel.models.card.card import Card, Metrics, SplitScore, card_from_json, card_to_json
from crackmodel.models.card.markdown import card_to_markdown
from crackmodel.models.datasets.splits import SplitRule, divide
from crackmodel.models.evaluation.html_page import splits_table
from crackmodel.models.training.split_comparison import HEAD, THIS_MODEL, beside_own, other_rule, score_head

LABELS = np.arange(600, dtype=np.int8) % 2
HASHES = [f"{row:064x}" for row in range(600)]
OWN = Metrics(36, 18, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.01, 18, 0, 0, 18)


def _division(rule: SplitRule) -> object:
    files = [f"{row // 10}_{row % 10}.jpg" for row in range(600)]
    features = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)
    return divide(rule, files, HASHES, LABELS, features)


def test_other_split_keeps_the_seed_and_no_expression() -> None:
    assert other_rule(SplitRule("grouped", "(.)", 3)) == SplitRule("random", None, 3)
    assert other_rule(SplitRule(seed=4)) == SplitRule("grouped", None, 4)


def test_other_heads_score_stands_beside_the_models() -> None:
    own, grouped = _division(SplitRule()), _division(SplitRule("grouped", r"^(\d+)_"))
    # A head that is sure and right, but for one row in ten: there it is sure and wrong.
    right = np.where(np.arange(600) % 10 == 0, 1 - LABELS, LABELS)
    outputs = np.where(np.eye(2)[right] == 1, 0.99, 0.01).astype(np.float32)

    head = score_head("grouped", grouped, outputs, LABELS, None)
    ours, other = beside_own([head], "random", own, OWN)

    assert (ours.kind, ours.model, ours.test, ours.groups) == ("random", THIS_MODEL, OWN, None)
    assert (other.kind, other.model, other.groups) == ("grouped", HEAD, 60)
    assert other.test is not None
    assert other.test.images == len(grouped.split.test)
    assert other.test.accuracy == pytest.approx(0.9)
    assert "grouped by" in other.split


def test_where_all_layers_are_trained_two_heads_are_compared() -> None:
    own, grouped = _division(SplitRule()), _division(SplitRule("grouped", r"^(\d+)_"))
    outputs = np.eye(2, dtype=np.float32)[LABELS] * 0.98 + 0.01

    heads = [
        score_head(kind, division, outputs, LABELS, None)
        for kind, division in (("random", own), ("grouped", grouped))
    ]

    scores = beside_own(heads, "random", own, OWN)

    assert [(each.kind, each.model) for each in scores] == [("random", HEAD), ("grouped", HEAD)]


def test_card_and_page_show_both_or_why_there_is_one_only(card: Card) -> None:
    own = _division(SplitRule())
    head = SplitScore("grouped", HEAD, problem="600 images in 1 group cannot be split.")
    scores = beside_own([head], "random", own, OWN)
    told = dataclasses.replace(card, splits=scores)

    assert card_from_json(card_to_json(told)) == told
    text = card_to_markdown(told)
    assert re.search(r"^\| random \| this model \| 36 \| 0\.0% \| 1\.0000 \| 1\.0000 \|$", text, re.MULTILINE)
    assert "| grouped | not possible: 600 images in 1 group cannot be split. |" in text
    table = splits_table(scores)
    assert table.title == "Test part of either split; grouped: 600 images in 1 group cannot be split."
    assert ["accuracy", "1.0000", "-"] in [list(row) for row in table.rows]
    assert "split" not in card_to_markdown(card)
