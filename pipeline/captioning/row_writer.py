"""Rows arrive in chunks, some early; they leave in parts, in order."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

from pipeline.captioning.messages import Chunk, End, Work
from pipeline.records.row import Row
from pipeline.runtime.bounded_queue import Stopped
from pipeline.state.leases import ClaimLost
from pipeline.storage.write_guard import fenced

ROWS_A_PART = 256
FEED_FLUSHED_S = 10.0
"""What a stream has shown is never seen again: a killed run loses no more than so many seconds of it."""


@dataclass(slots=True)
class _State:
    end: int
    """The position after the last row that is in a part or in ``rows``."""
    rows: list[Row] = field(default_factory=list)
    """Successive rows that are in no part yet."""
    early: dict[int, list[Row]] = field(default_factory=dict)
    """Rows that came before their predecessors, by their first position."""
    message: End | None = None
    """The source's end, which may come before its last rows."""
    flushed_s: float = field(default_factory=time.monotonic)


class Writer:
    """Flushes the rows of each source in parts: a multiple of the batch size near 256, or what is left."""

    def __init__(self, batch_size: int) -> None:
        self._rows_a_part = max(1, round(ROWS_A_PART / batch_size)) * batch_size
        self._states: dict[Work, _State] = {}

    def add(self, message: Chunk | End) -> End | None:
        """Take in a chunk, or the end of a source; its end once all of its rows have come.

        Then ``flush_rest`` is to be called. Raises ClaimLost when another worker has taken the source over.
        """
        work = message.work
        state = self._states.setdefault(work, _State(work.first))
        if isinstance(message, End):
            state.message = message
        else:
            state.early[message.first] = message.rows
            while state.end in state.early:
                rows = state.early.pop(state.end)
                state.rows += rows
                state.end += len(rows)
                if state.end % self._rows_a_part == 0 or _is_due(work, state):
                    self._flush(work, state)
        return state.message if state.message is not None and state.end >= state.message.total else None

    def flush_rest(self, work: Work) -> None:
        """Put the last rows of a source in a part; in another thread, so that nobody waits for the storage.

        Raises ClaimLost when another worker has taken the source over, Stopped when the run ends early.
        """
        state = self._states.pop(work, None)
        if state is None:
            raise Stopped  # flush_all has them
        self._flush(work, state)

    def forget(self, work: Work) -> None:
        """Throw away what comes of a source from now on."""
        work.abandoned = True
        self._states.pop(work, None)

    def flush_all(self) -> None:
        """Keep what is there of every source, as the run ends early."""
        while self._states:
            with suppress(ClaimLost, KeyError):
                self._flush(*self._states.popitem())

    def _flush(self, work: Work, state: _State) -> None:
        if state.rows:
            work.claim.check()
            with fenced(work.claim.assert_held):
                work.parts.write(state.rows)
            try:
                work.claim.check()
            except ClaimLost:
                work.parts.take_back(state.rows)
                raise
            state.rows = []
            state.flushed_s = time.monotonic()


def _is_due(work: Work, state: _State) -> bool:
    return work.source.feed is not None and time.monotonic() - state.flushed_s >= FEED_FLUSHED_S
