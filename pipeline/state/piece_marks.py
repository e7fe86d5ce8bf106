"""Pieces of one long video, or of one large folder, for several workers (`sources/splitting.py` cuts them).

What a piece is, is part of its fingerprint: it has parts and is resumed as if it were a source, but it
publishes nothing. It is done when its mark, beside its parts, says how many rows it has; when all are done
`gpucapt ingest finish` joins them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from pipeline.records.row import Row
from pipeline.records.video_facts import VideoFacts
from pipeline.sources.discovery import Piece, Source
from pipeline.state.parts import Parts, find_parts
from pipeline.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Mark:
    """What is said beside the parts of a piece: what it is and, once it is done, how many rows it has.

    ``facts`` tell what a film's piece showed of the film, also of a gap after its last row.
    """

    piece: Piece
    rows: int | None = None
    ran_on: bool = False
    facts: VideoFacts | None = None

    def write(self, parts: Parts) -> None:
        """Put it beside the parts."""
        parts.mark((json.dumps({"format": 1, **asdict(self)}) + "\n").encode())

    @classmethod
    def read(cls, parts: Parts) -> Mark | None:
        """The mark of these parts; None where there is none that can be read."""
        content = parts.read_mark()
        try:
            fields = json.loads(content or b"")
            piece, rows, facts = Piece(**fields["piece"]), fields["rows"], fields.get("facts")
            return cls(
                piece,
                None if rows is None else int(rows),
                bool(fields["ran_on"]),
                None if facts is None else VideoFacts.from_json(facts),
            )
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
