"""Sizes as people write them, with one meaning in every setting: ``512M``, ``2GB``, ``500000000``."""

from __future__ import annotations

import re
from fractions import Fraction

_PREFIXES = "KMGTPE"
_SIZE = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,40})?) *(?:([kmgtpe])(i?)(b?)|b)?", re.ASCII | re.IGNORECASE)
_TOO_LARGE = 1 << 63
"""More bytes than a file can have."""


def parse_size(text: str | int, *, least: int = 1) -> int:
    """The number of bytes that a size means, rounded down.

    ``2G``, ``2Gi`` and ``2GiB`` are 2 x 1024^3 bytes, ``2GB`` is 2 x 1000^3, as in GNU's programs. Raises
    ValueError for what is no size, below ``least`` or too large; its one line begins with "must be".
    ``bytes_in`` in dags/worker_environment.py reads the same.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is not None:
        number, prefix, binary, byte = match.groups()
        power = _PREFIXES.index(prefix.upper()) + 1 if prefix else 0
        size = int(Fraction(number) * (1000 if byte and not binary else 1024) ** power)
        if least <= size < _TOO_LARGE:
            return size
    raise ValueError(
        f"must be a size such as 512M or 2GB, at least {format_size(least)} and below 8E: bytes,"
        " or a number with K, M, G or T (powers of 1024) or KB, MB, GB or TB (powers of 1000)"
    )


def format_size(size: int) -> str:
    """The shortest text that means exactly so many bytes."""
    ways = [str(size)]
    for power, prefix in enumerate(_PREFIXES, start=1):
        for unit, name in ((1024**power, prefix), (1000**power, f"{prefix}B")):
            if size and size % unit == 0:
                ways.append(f"{size // unit}{name}")
    return min(ways, key=len)
