"""Pictures of different splits that look the same: a model tested on what it was trained on looks better.

Perceptual hashes of 64 bits are compared. Two that differ in at most 7 bits differ in at most one bit in one
of their four quarters. So for each quarter, and for it with each single bit changed, the hashes that have it
are found by binary search, and only those are compared: a thousandth of all pairs. What is found so is a
suspicion, which `alike` confirms by the pictures themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

MOST_BITS = 7
"""Compressed again, smaller, brighter: 3 at most, as a rule; with a border of 2 % cut off: 7, mostly. Of
pictures that have nothing to do with each other, a pair in a million differs in so few."""
LEAST_ALIKE = 0.9
"""What `alike` says of duplicates at least: with a border of 2 % cut off 19 of 20, without nearly all."""

_QUARTER = 16
_AT_ONCE = 1 << 21
"""Pairs that are compared at a time: some 100 MB."""
_SIDE = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures by split and position in it, and in how many of 64 bits their hashes differ."""

    first: tuple[str, int]
    second: tuple[str, int]
    bits: int


def suspected(hashes: Mapping[str, Sequence[int]], *, most: int = 10_000) -> list[Pair]:
    """Pairs across splits whose hashes are close, the closest first; at most `most`.

    Pictures of one colour have no hash to speak of (hardly a field is darker than the next) and are left out.
    """
    bits = {split: np.array(some, dtype=np.uint64) for split, some in hashes.items()}
    said = {split: np.flatnonzero((_ones(some) > 3) & (_ones(~some) > 3)) for split, some in bits.items()}
    found: list[Pair] = []
    for one, other in combinations(bits, 2):
        pairs = _close(bits[one][said[one]], bits[other][said[other]], most)
        found += [Pair((one, int(said[one][a])), (other, int(said[other][b])), far) for a, b, far in pairs]
    return sorted(found, key=lambda pair: (pair.bits, pair.first, pair.second))[:most]


def _close(ours: NDArray[np.uint64], theirs: NDArray[np.uint64], most: int) -> list[tuple[int, int, int]]:
    """Positions in `ours` and in `theirs`, and in how many bits the hashes differ; at most some `most`."""
    found: dict[tuple[int, int], int] = {}
    for a, b in _candidates(ours, theirs):
        far = _ones(ours[a] ^ theirs[b])
        close = np.flatnonzero(far <= MOST_BITS)[:most]
        found.update(
            zip(zip(a[close].tolist(), b[close].tolist(), strict=True), far[close].tolist(), strict=True)
        )
        if len(found) >= most:  # not a few duplicates: the same pictures are in both splits
            break
    return [(a, b, far) for (a, b), far in found.items()]


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """How alike two pictures (3, height, width) are, 1 at most: the correlation of their small versions."""
    import cv2

    small = []
    for picture in (one, other):
        grey = np.asarray(cv2.resize(picture[1], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float64)
        small.append((grey - grey.mean()) / max(float(grey.std()), 1e-9))
    return float((small[0] * small[1]).mean())


def _candidates(
    ours: NDArray[np.uint64], theirs: NDArray[np.uint64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions in `ours` and in `theirs` whose hashes nearly share a quarter; pairs may come repeatedly."""
    changes = [0, *(1 << bit for bit in range(_QUARTER))]
    for shift in range(0, 64, _QUARTER):
        quarter = _quarter(ours, shift)
        order = np.argsort(quarter, kind="stable")
        ordered = quarter[order]
        for change in changes:
            wanted = _quarter(theirs, shift) ^ change
            first = np.searchsorted(ordered, wanted, "left")
            count = np.searchsorted(ordered, wanted, "right") - first
            for some in _in_turns(count):
                many = count[some]
                # first, first + 1, …, first + many - 1 for each of some
                within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
                yield order[np.repeat(first[some], many) + within], np.repeat(some, many)


def _quarter(bits: NDArray[np.uint64], shift: int) -> NDArray[np.int64]:
    return ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)


def _in_turns(count: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Positions with something to compare, so many at a time that it is not too much at once."""
    some = np.flatnonzero(count)
    turn = np.cumsum(count[some]) // _AT_ONCE
    for number in range(int(turn[-1]) + 1 if len(turn) else 0):
        yield some[turn == number]


def _ones(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many bits are set in each number."""
    as_bytes = np.ascontiguousarray(bits).view(np.uint8).reshape(-1, 8)
    ones: NDArray[np.int64] = _IN_BYTE[as_bytes].sum(axis=1, dtype=np.int64)
    return ones


_IN_BYTE = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)
