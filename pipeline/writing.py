"""Rows arrive in chunks, some early; they leave in parts, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.claims import ClaimLost
from pipeline.reading import Chunk, End, Work
from pipeline.rows import Row

ROWS_A_PART = 256


@dataclass(slots=True)
class _State:
    end: int
    """The position after the last row that is in a part or in ``rows``."""
    rows: list[Row] = field(default_factory=list)
    """Successive rows that are in no part yet."""
    early: dict[int, list[Row]] = field(default_factory=dict)
    """Rows that came before their predecessors, by their first position."""
    total: int | None = None


class Writer:
    """Flushes the rows of each source in parts: a multiple of the batch size near 256, or what is left."""

    def __init__(self, batch_size: int) -> None:
        self._rows_a_part = max(1, round(ROWS_A_PART / batch_size)) * batch_size
        self._states: dict[Work, _State] = {}

    def add(self, message: Chunk | End) -> int | None:
        """Take in a chunk, or the end of a source; the number of its rows once all of them are in parts.

        Raises ClaimLost when another worker has taken the source over.
        """
        work = message.work
        state = self._states.setdefault(work, _State(work.first))
        if isinstance(message, End):
            state.total = message.total
        else:
            state.early[message.first] = message.rows
            while state.end in state.early:
                rows = state.early.pop(state.end)
                state.rows += rows
                state.end += len(rows)
                if state.end % self._rows_a_part == 0:
                    self._flush(work, state)
        if state.total is None or state.end < state.total:
            return None
        self._flush(work, state)
        del self._states[work]
        return state.total

    def forget(self, work: Work) -> None:
        """Throw away what comes of a source from now on."""
        work.abandoned = True
        self._states.pop(work, None)

    def flush_all(self) -> None:
        """Keep what is there of every source, as the run ends early."""
        for work, state in self._states.items():
            try:
                self._flush(work, state)
            except ClaimLost:
                continue

    def _flush(self, work: Work, state: _State) -> None:
        if state.rows:
            work.claim.check()
            work.parts.write(state.rows)
            state.rows = []
