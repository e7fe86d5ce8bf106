"""Shots: how long what a video shows stays, and the one caption that says it best.

Of a shot that does not change, a captioner words one frame like this and the next like that. Subtitles,
chapters and stories say the surest of these captions for all of the shot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.records.row import Row

LAST_SHOT_MS = 2000
"""How long the last shot stays when nothing tells how far apart the frames are."""

_LAST_SHOT_BOUNDS_MS = (500, 10_000)


@dataclass(slots=True)
class SteadyShot:
    """Successive rows whose frames look alike, as one.

    ``row`` is the one with the surest caption, the first of equals; ``rows`` counts them. Times are whole
    milliseconds, ``end_ms >= start_ms``; they are equal where the next row has the same time.
    """

    start_ms: int
    end_ms: int
    row: Row
    rows: int = 1


class ShotMaker:
    """Turns the rows of a source, in order, into shots; holds one at a time, however long it is.

    A shot lasts until the next one begins, or where its rows say when they end, until then. The last shot
    lasts one more frame distance, at least half a second, at most ten. Time never goes back: a row that seems
    earlier than the one before is at the same time. Stills have no times: all their shots are at 0.
    """

    def __init__(self) -> None:
        self._shot: SteadyShot | None = None
        self._time_ms = 0
        self._distance_ms = LAST_SHOT_MS
        self._end_ms: int | None = None
        """Where the last row ends, if it says so, and not that it is over when it begins."""

    def add(self, row: Row) -> SteadyShot | None:
        """Take the next row; return the shot before it where it begins another."""
        before, shot = self._time_ms, self._shot
        now = self._time_ms = max(_milliseconds(row.timestamp_s or 0.0), before)
        if shot is not None:
            self._distance_ms = now - before or self._distance_ms
        ended = shot
        if shot is not None and row.is_alike:
            ended = None
            shot.rows += 1
            if _sureness(row) > _sureness(shot.row):
                shot.row = row
        else:
            if shot is not None:
                shot.end_ms = now if self._end_ms is None else min(self._end_ms, now)
            self._shot = SteadyShot(now, now, row)
        end = None if row.end_s is None else _milliseconds(row.end_s)
        self._end_ms = end if end is not None and end > now else None
        return ended

    def finish(self) -> SteadyShot | None:
        """Return the last shot, after the last row."""
        shot, self._shot = self._shot, None
        if shot is not None:
            low, high = _LAST_SHOT_BOUNDS_MS
            distance = min(max(self._distance_ms, low), high)
            shot.end_ms = self._time_ms + distance if self._end_ms is None else self._end_ms
        return shot


def shots(rows: Iterable[Row]) -> Iterator[SteadyShot]:
    """Yield the shots of a source in order. Stills that were set aside are passed over."""
    maker = ShotMaker()
    for row in rows:
        if row.error is None and (ended := maker.add(row)) is not None:
            yield ended
    if (last := maker.finish()) is not None:
        yield last


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def _sureness(row: Row) -> tuple[bool, float]:
    """By what captions of a shot are compared; a caption without words says nothing, however sure."""
    return bool(row.words or row.caption.strip()), row.confidence
