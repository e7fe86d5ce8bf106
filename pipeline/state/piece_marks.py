"""Pieces: one long film, or one large folder, for several workers.

Planning cuts a film by its size alone, without opening it, and a folder at names in its sorted listing. So
the same input, cut to the same size, has the same pieces. What they are is part of their fingerprint: a piece
has parts and is resumed as if it were a source, but it publishes nothing. It is done when its mark, beside
its parts, says how many rows it has; when all are done `gpucapt ingest finish` joins them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from pipeline.records.row import Row
from pipeline.sources.discovery import Piece, Source
from pipeline.state.parts import Parts, find_parts
from pipeline.storage.base import Entry, Storage

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


@dataclass(frozen=True, slots=True)
class Mark:
    """What is said beside the parts of a piece: what it is and, once it is done, how many rows it has."""

    piece: Piece
    rows: int | None = None
    ran_on: bool = False

    def write(self, parts: Parts) -> None:
        """Put it beside the parts."""
        parts.mark((json.dumps({"format": 1, **asdict(self)}) + "\n").encode())

    @classmethod
    def read(cls, parts: Parts) -> Mark | None:
        """The mark of these parts; None where there is none that can be read."""
        content = parts.read_mark()
        try:
            fields = json.loads(content or b"")
            piece, rows = Piece(**fields["piece"]), fields["rows"]
            return cls(piece, None if rows is None else int(rows), bool(fields["ran_on"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def parts_of(storage: Storage, source: Source, fingerprint: str) -> Parts:
    """Where a source, or a piece, keeps its rows until it is published or joined."""
    piece = source.piece
    return Parts(storage, source.key, fingerprint, None if piece is None else (piece.index, piece.of))


def unfinished_rows(storage: Storage, source: Source, fingerprint: str) -> list[Iterator[Row]]:
    """Rows of stills that runs left behind which never finished, from when the folder held other stills.

    For a piece only of those parts that may hold stills of it.
    """
    digest = fingerprint.partition("-")[0]
    return [
        parts.rows()
        for parts in find_parts(storage, source.key)
        if parts.fingerprint != fingerprint
        and parts.fingerprint.startswith(f"{digest}-")
        and _may_share_stills(source.piece, parts)
        and parts.resume()
    ]


def _may_share_stills(piece: Piece | None, parts: Parts) -> bool:
    if piece is None or parts.piece is None:
        return True
    if parts.piece[1] == piece.of:  # another piece of the same cut, as a rule
        return False
    mark = Mark.read(parts)
    if mark is None:
        return False
    earlier, later = sorted((piece, mark.piece), key=lambda one: one.after.encode())
    return earlier.upto is None or earlier.upto.encode() > later.after.encode()
