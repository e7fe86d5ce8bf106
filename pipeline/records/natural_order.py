"""The order in which people number pictures: img2 before img10."""

from __future__ import annotations

import re

_NUMBERS = re.compile("([0-9]+)")


def natural_key(name: str) -> bytes:
    """What to sort names by, byte by byte: numbers by their value, letters in either case alike.

    Names that differ only in case, or in zeros before a number, have the same key.
    """
    texts = _NUMBERS.split(name.casefold())
    return b"".join(map(_part, texts, range(len(texts))))


def _part(text: str, index: int) -> bytes:
    if index % 2 == 0:
        return text.encode("utf-8", "surrogatepass")
    digits = text.lstrip("0")
    # Begins as every digit does, to stay between the other characters; of two numbers the longer is greater.
    return b"0" + len(digits).to_bytes(4) + digits.encode()
