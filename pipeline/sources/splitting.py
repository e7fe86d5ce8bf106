"""Cutting a long video, or a large folder, into pieces for several workers.

Planning cuts a video by its size alone, without opening it, and a folder at names in its sorted listing. So
the same input, cut to the same size, has the same pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pipeline.sources.discovery import Piece, Source
from pipeline.storage.base import Entry

COST_OF_A_STILL = 32 << 10
"""Bytes that fetching and opening a still is taken to cost, whatever its size."""


Cut = tuple[int, Source]
"""A source or a piece of one, and what it costs in bytes."""


def cut_film(source: Source, size: int, most: int) -> Iterator[Cut]:
    """A film, in pieces of about ``size`` bytes where it is larger."""
    assert source.entry is not None
    of = max(1, min(most, -(-source.entry.size // size)))
    for index in range(of):
        piece = Piece(index, of) if of > 1 else None
        yield -(-source.entry.size // of), replace(source, piece=piece)


def cut_folder(source: Source, entries: Iterable[Entry], size: int) -> Iterator[Cut]:
    """A folder with these stills, in pieces that cost about ``size`` each where it is larger."""
    names, costs, name = [""], [0], ""
    for entry in entries:
        cost = entry.size + COST_OF_A_STILL
        if costs[-1] and costs[-1] + cost > size:
            names.append(name)
            costs.append(0)
        costs[-1] += cost
        name = entry.name
    if len(costs) == 1:
        return iter([(costs[0], source)] if costs[0] else [])
    uptos = [*names[1:], None]
    ends = enumerate(zip(costs, names, uptos, strict=True))
    return (
        (cost, replace(source, piece=Piece(index, len(costs), after, upto)))
        for index, (cost, after, upto) in ends
    )
