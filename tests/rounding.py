"""How far apart log-probabilities of one caption may lie, as docs/formats.md promises under Rounding."""

from __future__ import annotations

from collections.abc import Iterable

ROUNDING_UNITS = 10
"""In units of the fourth decimal. What a batch of another size rounds depends on the processor: the steep
random weights of tests/model/tiny.py come to 1 with AVX-512 and to 6 without any vector instructions, where
the bundled captioner's come to 0.1."""


def units_apart(found: Iterable[float], wanted: Iterable[float]) -> int:
    """The largest difference between two lists of log-probabilities, in units of the fourth decimal."""
    return max((round(abs(one - other) * 1e4) for one, other in zip(found, wanted, strict=True)), default=0)
