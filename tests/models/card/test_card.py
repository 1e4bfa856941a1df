from __future__ import annotations

import json

import pytest

from crackmodel.models.card.card import Card, FileRecord, card_from_json, card_to_json


def test_card_survives_json(card: Card) -> None:
    assert card_from_json(card_to_json(card)) == card


def test_files_survive_json(card: Card) -> None:
    loaded = card_from_json(card_to_json(card))
    fields = json.loads(card_to_json(card)) | {"files": {"model.tflite": {"sha256": "ab", "bytes": 3}}}

    assert loaded.files == {}
    assert card_from_json(json.dumps(fields)).files == {"model.tflite": FileRecord("ab", 3)}


def test_fields_of_a_later_software_are_ignored(card: Card) -> None:
    fields = json.loads(card_to_json(card))
    fields["colour"] = "green"
    fields["data"]["weather"] = {"rain": True}

    assert card_from_json(json.dumps(fields)) == card


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda fields: fields.pop("threshold"), "card.threshold: Field required"),
        (lambda fields: fields["threshold"].pop("value"), "card.threshold.value: Field required"),
        (
            lambda fields: fields["threshold"].update(value="half"),
            "card.threshold.value: Input should be a .*number",
        ),
        (
            lambda fields: fields["data"]["train"].update(images=1.5),
            r"train.images: Input should be a valid integer",
        ),
        (
            lambda fields: fields["data"]["train"].update(images=True),
            r"train.images: Input should be a valid integer",
        ),
        (lambda fields: fields["metrics"].update(test=[]), "card.metrics.test: Input should be an object"),
        (
            lambda fields: fields.update(class_names=["clear", 7]),
            r"class_names\[1\]: Input should be a .*string",
        ),
        (lambda fields: fields.update(files=[]), "card.files: Input should be an object"),
    ],
)
def test_malformed_card_is_refused_by_the_field(card: Card, change: object, complaint: str) -> None:
    fields = json.loads(card_to_json(card))
    change(fields)  # type: ignore[operator]

    with pytest.raises(ValueError, match=complaint):
        card_from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "null", b"\xff\xfe"])
def test_something_else_is_no_card(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        card_from_json(text)
