"""How far apart log-probabilities of one caption may lie, as docs/formats.md promises under Rounding."""

from __future__ import annotations

from collections.abc import Iterable

ROUNDING_UNITS = 10
"""In units of the fourth decimal. What a batch of another size rounds depends on the processor: the steep
random weights that tests/model/tiny.py makes by default come to 1 with AVX-512 and AVX2 and to 6 with SSE4.1,
where the bundled captioner's come to 0.1. Other seeds and decoders of it come to more: 12 with AVX2, 105 with
SSE4.1. Compare those by their words."""


def units_apart(found: Iterable[float], wanted: Iterable[float]) -> int:
    """The largest difference between two lists of log-probabilities, in units of the fourth decimal."""
    return max((round(abs(one - other) * 1e4) for one, other in zip(found, wanted, strict=True)), default=0)
