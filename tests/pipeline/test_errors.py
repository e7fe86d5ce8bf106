"""Messages are one line of a terminal, whatever an input is called."""

from __future__ import annotations

import pytest

from pipeline.errors import BadInput, one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2J\nb.jpg", "a\\x1b[2J\\nb.jpg"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
        ("\u2066a\u2069\u200b\ufeff.jpg", "\\u2066a\\u2069\\u200b\\ufeff.jpg"),
        ("a\u2028b\udc80", "a\\u2028b\\udc80"),
        ("Hündin 犬 🐕.jpg", "Hündin 犬 🐕.jpg"),
    ],
)
def test_nothing_in_a_name_controls_the_terminal(name: str, shown: str) -> None:
    assert one_line(name) == shown
    assert str(BadInput(f"{name}: damaged")) == f"{shown}: damaged"
