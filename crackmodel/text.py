"""Text from outside, made safe to show: on a terminal, in Markdown, on one line."""

from __future__ import annotations

import unicodedata
from typing import Final

_ACTING_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's controls, formatting marks, lone surrogates, and separators of lines and paragraphs."""


def printable(text: str) -> str:
    """Escape what would move the cursor, colour the terminal or turn the reading direction.

    File names come from anywhere; every sentence that shows one passes it through here. Lone surrogates,
    Python's stand-ins for bytes that are not UTF-8, are escaped too, so the result can be encoded.
    """
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _ACTING_CATEGORIES
        else character
        for character in text
    )


def escaped(text: str) -> str:
    """Escape text for Markdown: nothing in it is read as markup, of Markdown or HTML."""
    safe = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{char}" if char in r"\`*_[]|#" else char for char in safe)


def one_line(error: BaseException, longest: int | None = None) -> str:
    """Write an error's message on one line; its type's name if it has none.

    Args:
        error: What was raised.
        longest: Most characters of the message.
    """
    return " ".join(str(error).split())[:longest] or type(error).__name__
