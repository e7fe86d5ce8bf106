"""Watching a stream: a thread takes its frames as they come, whoever has time for them or not.

Chosen frames wait for the captioner in a small queue. When it is full the oldest one goes: captions keep up
with the stream, and what was left out is counted.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.errors import GpucaptError
from pipeline.records.frame_selection import Selection
from pipeline.runtime.signals import Interrupted
from pipeline.streams.address import Address
from pipeline.streams.camera import OpenStream, StreamUnavailable, opened, why_not

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = logging.getLogger("gpucapt")

MOST_WAITING = 16
_MOST_BYTES_WAITING = 256 << 20
_LOOK_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_STEADY_S = 30.0
"""A stream that stays for so long is trusted again: after the next loss pauses are short."""
_MOST_OFF_S, _MOST_OFF_PACED_S = 0.1, 10.0
"""A time that is further off belongs to another clock: the stream was cut, or began anew."""
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Shot:
    """A chosen frame: its number among all frames of the stream, when it came, by the monotonic clock, and
    the picture (height, width, 3), RGB."""

    number: int
    at_s: float
    image: NDArray[np.uint8]


class Capture:
    """One stream, watched from ``start`` until it is over, for ``duration_s`` or until ``stop``.

    A stream that is lost is looked for again with growing pauses, for ``patience_s``.
    """

    def __init__(
        self,
        address: Address,
        selection: Selection,
        *,
        patience_s: float,
        duration_s: float | None = None,
    ) -> None:
        self.address = address
        self.losses = 0
        self._dropped = 0
        self._selection = selection
        self._patience_s = patience_s
        self._duration_s = duration_s
        self._until: float | None = None
        self._over_s = math.inf
        self._latest_s, self._late_s = -math.inf, _MOST_OFF_S
        self._lost_at: float | None = None
        self._stopped = threading.Event()
        self._signal: int | None = None
        self._ended = threading.Event()
        self._failed: Exception | None = None
        self._shots: deque[Shot] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Begin, and wait for the first frame.

        Raises StreamUnavailable when there is no such stream or nothing comes, Interrupted after ``stop``.
        """
        self._thread.start()
        while self._until is None and not self._ended.wait(_LOOK_S):
            self.go_on()
        if self._until is None:
            self.go_on()
            raise self._failed or StreamUnavailable(f"{self.address.shown} has shown not one frame")

    def stop(self, signal_number: int | None = None) -> None:
        """End it; what has come by now is still there to be taken. May be called from a signal handler."""
        self._signal = signal_number
        self._over_s = min(self._over_s, time.monotonic())
        self._stopped.set()

    def go_on(self) -> None:
        """Raises Interrupted after ``stop`` by a signal."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def close(self) -> None:
        """End it, and give the stream back if it can be had within a moment."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(_GRACE_S)

    @property
    def is_over(self) -> bool:
        """Whether no frame comes any more."""
        is_late = self._until is not None and time.monotonic() >= self._until
        return is_late or self._stopped.is_set() or self._ended.is_set()

    @property
    def seen_until_s(self) -> float:
        """Up to when it has been watched, by the monotonic clock."""
        return min(time.monotonic(), self._over_s, math.inf if self._until is None else self._until)

    def check(self) -> None:
        """Raises what went wrong, other than that the stream was lost."""
        if self._failed is not None and not isinstance(self._failed, StreamUnavailable):
            raise self._failed

    def next(self) -> Shot | None:
        """Wait for a chosen frame and leave it where it is; None when none comes any more."""
        with self._changed:
            while not self._shots:
                if self.is_over:
                    return None
                self._changed.wait(_LOOK_S)
            return self._shots[0]

    def take(self, most: int, before_s: float) -> list[Shot] | None:
        """Wait for chosen frames that came before a time, and take them; None when none comes any more."""
        with self._changed:
            while not self._shots:
                # What a stream shows may be on its way here for a while.
                is_past = self._latest_s >= before_s or time.monotonic() >= before_s + self._late_s
                if self.is_over or is_past:
                    return None
                self._changed.wait(_LOOK_S)
            taken: list[Shot] = []
            while self._shots and len(taken) < most and self._shots[0].at_s < before_s:
                taken.append(self._shots.popleft())
            return taken or None

    def dropped_since(self) -> int:
        """How many chosen frames nobody had time for, since this was last asked."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        return dropped

    # What follows runs in the capture's own thread.

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self._failed = error
        finally:
            ended_s = time.monotonic() if self._lost_at is None else self._lost_at
            self._over_s = min(self._over_s, ended_s)
            self._ended.set()

    def _watch(self) -> None:
        frames = _Frames(self, self._selection)
        pause_s = _FIRST_PAUSE_S
        while not self.is_over:
            try:
                with opened(self.address) as stream:
                    began = time.monotonic()
                    frames.watch(stream)
                    if stream.has_known_end or self.is_over:
                        return
                if self._lost_at is None:
                    self._is_lost()
                    if time.monotonic() - began > _STEADY_S:
                        pause_s = _FIRST_PAUSE_S
            except StreamUnavailable as error:
                if self._until is None:
                    raise StreamUnavailable(why_not(self.address)) from error
            if self._lost_at is None:  # it opens, but has not shown anything yet
                return
            if time.monotonic() - self._lost_at + pause_s > self._patience_s:
                _log.info("%s is taken to be over", self.address.shown)
                return
            self._stopped.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _is_lost(self) -> None:
        self._lost_at = time.monotonic()
        self.losses += 1
        if self._patience_s > 0:
            again = "" if self._patience_s == math.inf else f" for {self._patience_s:g} s"
            _log.warning("%s was lost; looking for it again%s", self.address.shown, again)

    def seen(self, at_s: float, late_s: float) -> None:
        """A frame of that time has come; how late they may be at most."""
        self._latest_s, self._late_s = at_s, late_s
        if self._until is None:
            self._until = time.monotonic() + (self._duration_s or math.inf)
        if self._lost_at is not None:
            _log.info("%s is back after %.0f s", self.address.shown, time.monotonic() - self._lost_at)
            self._lost_at = None

    def pause(self, seconds: float) -> None:
        """Wait, unless it is over meanwhile."""
        self._stopped.wait(seconds)

    def put(self, shot: Shot) -> None:
        """Let a frame wait to be taken, in the place of older ones if there is no room."""
        with self._changed:
            if self.is_over:
                return
            size = shot.image.nbytes
            while self._shots and (
                len(self._shots) >= MOST_WAITING or (len(self._shots) + 1) * size > _MOST_BYTES_WAITING
            ):
                self._shots.popleft()
                self._dropped += 1
            self._shots.append(shot)
            self._changed.notify_all()


class _Frames:
    """The frames of a stream over all its losses: which are chosen."""

    def __init__(self, capture: Capture, selection: Selection) -> None:
        from pipeline.media.frame_choice import AtTimes, DuplicateFilter

        interval_s = selection.interval_s
        self._capture = capture
        self._is_time = None if interval_s is None else AtTimes(interval_s * 1000)
        self._is_new = DuplicateFilter() if selection.skip_duplicates else None
        self._number = -1

    def watch(self, stream: OpenStream) -> None:
        """Hand on the chosen frames until the stream ends, is lost, or has been watched for long enough."""
        capture = self._capture
        for at_s in self._timed(stream):
            self._number += 1
            capture.seen(at_s, _most_off_s(stream))
            if self._is_time is not None and not self._is_time(at_s * 1000):
                continue
            image = stream.image()
            if image is not None and (self._is_new is None or self._is_new(image)):
                capture.put(Shot(self._number, at_s, image))

    def _timed(self, stream: OpenStream) -> Iterator[float]:
        """When each frame came, by the monotonic clock, without the jitter of its way here.

        The frames of a server that sends faster than they play have to wait.
        """
        is_paced, capture = stream.is_paced, self._capture
        tolerance_s = _most_off_s(stream)
        offset_s = last_s = -math.inf
        for of_stream_s in stream.grabbed(lambda: not capture.is_over):
            now = time.monotonic()
            at_s = of_stream_s + offset_s
            if at_s <= last_s or abs(at_s - now) > tolerance_s:
                # The first one; or the stream has no times, was cut, or its clock is another.
                offset_s, at_s = now - of_stream_s, max(now, last_s)
            elif is_paced and at_s > now:
                capture.pause(at_s - now)
            last_s = at_s
            yield at_s


def _most_off_s(stream: OpenStream) -> float:
    return _MOST_OFF_PACED_S if stream.is_paced else _MOST_OFF_S


def check_selection(selection: Selection) -> None:
    """Raises GpucaptError for a choice of frames that wants the whole film first."""
    if selection.scenes:
        raise GpucaptError("scenes are told from the whole film; a stream takes --every or --fps")
