"""Frozen dataclasses from JSON, checked field by field."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")


def record_from_json(kind: type[Record], value: Any, where: str) -> Record:
    """Build a frozen dataclass, nested ones included, from decoded JSON.

    Fields that the dataclass does not have are ignored; those with a default may be missing.

    Args:
        kind: The dataclass. Its fields are strings, numbers, booleans, literals of these, dataclasses,
            tuples of one type, mappings from strings, one of these or None, or Any.
        value: What `json.loads` gave.
        where: What to call the value in a complaint.

    Raises:
        ValueError: A field is missing or of another type; the message says which.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.name in value:
            given[item.name] = _value(hints[item.name], value[item.name], f"{where}.{item.name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}.{item.name} is missing")
    return kind(**given)


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911 - one line a kind of type
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return record_from_json(typing.cast("type[Any]", hint), value, where)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ValueError(f"{where} is {type(value).__name__}, not {getattr(hint, '__name__', hint)}")
