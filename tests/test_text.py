"""Text from outside, made safe to show."""

from __future__ import annotations

import pytest

from crackmodel.text import escaped, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("br\xfccke/\u6a4b.jpg", "br\xfccke/\u6a4b.jpg"),
        ("a\x1b[31m\n", r"a\x1b[31m\n"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("s\udcfcd", r"s\udcfcd"),
    ],
)
def test_what_would_act_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_markdown_and_html_stay_text() -> None:
    assert escaped("<b>_a_|`b` [c](d) & #e\n") == r"&lt;b&gt;\_a\_\|\`b\` \[c\](d) &amp; \#e\\n"


def test_an_error_is_one_line_even_without_a_message() -> None:
    assert one_line(ValueError("a\n  b"), 3) == "a b"
    assert one_line(ValueError("a b c"), 3) == "a b"
    assert one_line(TimeoutError()) == "TimeoutError"
