"""A stream cut by time: each segment is a source, which is there from its first frame on."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, count

from pipeline.media.frame import Frame
from pipeline.sources.discovery import Source
from pipeline.storage.base import Entry
from pipeline.streams.capture import Capture, Shot

_LOOK_S = 0.1


class Segment:
    """What a stream shows within ``length_s`` from its ``first`` frame on, or ``most`` frames of it."""

    def __init__(self, capture: Capture, first: Shot, length_s: float, most: int | None) -> None:
        self.is_begun = False
        self.over = threading.Event()
        self.end_s = first.at_s + length_s
        self.started = datetime.now(UTC) - timedelta(seconds=time.monotonic() - first.at_s)
        self.dropped = 0
        self._capture = capture
        self._first = first
        self._most = most
        self._losses_before = capture.losses
        self._ended_s: float | None = None

    def batches(self, most: int) -> Iterator[list[Frame]]:
        """As ``Feed``. The frames' numbers and times, in seconds, count from the first one."""
        self.is_begun = True
        position = 0
        try:
            while (shots := self._capture.take(most, self.end_s)) is not None:
                left = len(shots) if self._most is None else self._most - position
                frames = [self._frame(shot, position + at) for at, shot in enumerate(shots[:left])]
                position += len(frames)
                if frames:
                    yield frames
        finally:
            self._ended_s = max(min(self.end_s, self._capture.seen_until_s), self._first.at_s)
            self.dropped = self._capture.dropped_since()
            self.over.set()

    def _frame(self, shot: Shot, position: int) -> Frame:
        number, at_s = shot.number - self._first.number, shot.at_s - self._first.at_s
        return Frame(position, number, round(at_s, 3), shot.image)

    def facts(self) -> dict[str, object]:
        """When it was, and what of it is missing."""
        ended_s = self._ended_s if self._ended_s is not None else self._first.at_s
        return {
            "started_at": f"{self.started:%Y-%m-%dT%H:%M:%S}.{self.started.microsecond // 1000:03}Z",
            "seconds": round(ended_s - self._first.at_s, 3),
            "dropped": self.dropped,
            "losses": self._capture.losses - self._losses_before,
        }


def segments(
    capture: Capture, length_s: float, most: int | None, is_free: Callable[[str], bool]
) -> Iterator[Source]:
    """The segments of a stream, each when its first frame has come and the one before is over.

    Their keys are the stream's name and the time, in UTC. ``is_free`` says whether there are no results
    under a key yet.
    """
    while (first := capture.next()) is not None:
        segment = Segment(capture, first, length_s, most)
        key = _key(f"{capture.address.name}/{segment.started:%Y%m%dT%H%M%SZ}", is_free)
        # Nothing else will ever have been what this segment was.
        entry = Entry(key, 0, secrets.token_hex(16), segment.started.timestamp())
        yield Source(key, "video", key, entry, feed=segment)
        while not segment.over.wait(_LOOK_S):
            if time.monotonic() > segment.end_s and not segment.is_begun:
                break  # set aside, or lost to another worker, before anybody read it
    capture.check()


def _key(wanted: str, is_free: Callable[[str], bool]) -> str:
    """The key, or where another run was there in the same second, with a number."""
    return next(filter(is_free, chain([wanted], (f"{wanted}-{number}" for number in count(2)))))
