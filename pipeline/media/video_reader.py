"""Which frames of a video are chosen, and reading them: all of it, what is left of it, or a passage of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.media.frame import Frame, KnownFrame, Passage
from pipeline.media.opencv_reader import frame_rate, grabbed, opened, retrieved
from pipeline.media.video_index import Index, index_of, land
from pipeline.records.frame_selection import Selection

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray


ROUNDING_MS = 0.51
"""Containers such as Matroska round times to milliseconds: missing a time by this still counts as 'at' it."""

DUPLICATE_RMS = 4.0
"""Root mean square difference, of 255, below which two frames look the same (noise stays under 1)."""

SIGNATURE_SIZE = 32  # pixels square
SCENE_WIDTH = 256  # pixels; scene cuts are looked for in frames made this narrow
SHORTEST_SCENE_S = 0.6

Choose = Callable[[int, float], bool]
"""Whether a frame is selected, given its number and its time in ms; asked for each frame in order."""


def read_video(
    path: Path,
    selection: Selection,
    *,
    first_position: int = 0,
    after: KnownFrame | None = None,
    passage: Passage | None = None,
) -> Iterator[Frame]:
    """The selected frames of a video, or of a passage of it, from `first_position` on, in order.

    Args:
        path: a local file.
        first_position: frames before it are passed over, as cheaply as the same choice of frames allows. It
            counts the selected frames of the passage from 0; the positions of the frames count from the
            video's start.
        after: the frame before `first_position`, which lets reading begin there, without what comes before.
        passage: only this part of the video; only for selections that can be split.

    Raises:
        BadInput: with the first frame, when not one can be decoded. A damaged film gives what decodes.
    """
    reading = _Reading(path, selection, first_position, passage)
    wants_index = passage is not None or (first_position > 0 and after is not None)
    index = index_of(path) if wants_index and not (selection.scenes or selection.skip_duplicates) else None
    if passage is not None:
        reading.first, reading.end = passage.cut(index.count if index else 0)
        if reading.first == reading.end:
            return
    start = reading.seen_by_index(index, after) if index and index.is_exact else None
    if start is not None and index is not None:
        with opened(path) as capture:
            frames = land(capture, index, start.number)
            if frames is not None:
                yield from reading.chosen(capture, frames, start, index)
                if not reading.is_in_doubt:
                    return
    with opened(path) as capture:
        start = _Start(0, 0, first_position + reading.read, _chooser(path, selection))
        yield from reading.chosen(capture, grabbed(capture), start, index)


@dataclass(slots=True)
class _Start:
    """Where reading begins: a frame's number, how many frames before it are chosen, how many of the rows from
    there on are known, and what has seen the frames before."""

    number: int
    position: int
    known: int
    choose: Choose


@dataclass(slots=True)
class _Reading:
    """One reading of a film or of a passage of it."""

    path: Path
    selection: Selection
    first_position: int
    passage: Passage | None
    first: int = 0
    end: int | None = None
    read: int = 0
    """How many frames were chosen and read so far."""
    is_in_doubt: bool = False
    """Whether reading that began in the middle ended because something did not fit."""

    def seen_by_index(self, index: Index, after: KnownFrame | None) -> _Start | None:
        """The start, as far in as is sure, with the frames before it chosen by their times alone."""
        choose = _chooser(self.path, self.selection)
        position, number = _count(index, choose, 0, self.first), self.first
        known = self.first_position
        if after is not None and known and self._is_among(index, after):
            going_on = after[0] + 1
            at_least = _count(index, choose, self.first, going_on)
            if at_least != known:
                return None
            position, number, known = position + at_least, going_on, 0
        return _Start(number, position, known, choose) if number > 0 else None

    def _is_among(self, index: Index, known: KnownFrame) -> bool:
        """Whether a frame is of this passage, and where it was when its row was written."""
        number, timestamp_s = known
        if not self.first <= number < (index.count if self.end is None else self.end):
            return False
        return _seconds(index.times_ms[number]) == timestamp_s

    def chosen(
        self,
        capture: cv2.VideoCapture,
        frames: Iterator[tuple[int, float]],
        start: _Start,
        index: Index | None,
    ) -> Iterator[Frame]:
        """The chosen ones of the frames from ``start`` on, without those whose rows are known.

        A passage ends where it should only if every frame so far was where the packets said it would be.
        Otherwise frames are missing or moved, what comes after cannot be told without them, and so this
        passage runs on to the end of the film. (And how a decoder makes up for what is missing may depend on
        all that came before: then the film is read from its start.)
        """
        is_new = DuplicateFilter() if self.selection.skip_duplicates else None
        position, known, number = start.position, start.known, start.number - 1
        as_told = True
        for number, at_ms in frames:
            if self.end is not None and number >= self.end and as_told:
                self._has_run_on(known > 0)
                return
            as_told = as_told and (index is None or not index.is_exact or index.says(number, at_ms))
            if start.number and not as_told:
                self.is_in_doubt = True
                return
            if position == self.selection.max_frames:
                return
            if not start.choose(number, at_ms):
                continue
            wanted = number >= self.first and known == 0
            if wanted or is_new:
                image = retrieved(capture, self.path, number)
                if is_new and not is_new(image):
                    continue
                if wanted:
                    self.read += 1
                    yield _frame(position, number, at_ms, image)
            known -= number >= self.first and known > 0
            position += 1
            if position == self.selection.max_frames:
                return
        self._has_run_on(self.end is not None)
        if number < 0:
            raise BadInput(f"{self.path.name}: not one frame of this video can be decoded")

    def _has_run_on(self, ran_on: bool) -> None:
        if self.passage is not None:
            self.passage.ran_on = ran_on


def _count(index: Index, choose: Choose, first: int, end: int) -> int:
    """Show the frames from ``first`` to before ``end`` to what chooses; how many it chose."""
    return sum(choose(number, index.times_ms[number]) for number in range(first, min(end, index.count)))


def _seconds(at_ms: float) -> float:
    return round(at_ms / 1000, 6)


def _frame(position: int, number: int, at_ms: float, bgr: NDArray[np.uint8]) -> Frame:
    import cv2
    import numpy as np

    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return Frame(position, number, _seconds(at_ms), np.asarray(image, dtype=np.uint8))


def _chooser(path: Path, selection: Selection) -> Choose:
    if selection.scenes:
        middles = iter(scene_middles(path))
        return _AtNumbers(middles)
    interval_s = selection.interval_s
    return AtTimes(interval_s * 1000) if interval_s is not None else lambda number, at_ms: True


class AtTimes:
    """The first frame at or after each multiple of an interval, counted from the first frame."""

    def __init__(self, interval_ms: float) -> None:
        self._interval_ms = interval_ms
        self._start_ms: float | None = None
        self._next_ms = -math.inf

    def __call__(self, number: int, at_ms: float) -> bool:
        if self._start_ms is None:
            self._start_ms = at_ms
        if at_ms + ROUNDING_MS < self._next_ms:
            return False
        # After a gap of several intervals the frame stands for all of them.
        passed = math.floor((at_ms - self._start_ms + ROUNDING_MS) / self._interval_ms)
        self._next_ms = self._start_ms + (passed + 1) * self._interval_ms
        return True


class _AtNumbers:
    """The frames with the given numbers, which rise."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._next = next(numbers, None)

    def __call__(self, number: int, at_ms: float) -> bool:
        if number != self._next:
            return False
        self._next = next(self._numbers, None)
        return True


class DuplicateFilter:
    """Whether a frame differs from the last one that did; by small copies, so that noise averages out."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> bool:
        import cv2
        import numpy as np

        small = cv2.resize(image, (SIGNATURE_SIZE, SIGNATURE_SIZE), interpolation=cv2.INTER_AREA)
        signature = np.asarray(small, dtype=np.float32)
        if self._last is not None and float(np.sqrt(np.mean((signature - self._last) ** 2))) < DUPLICATE_RMS:
            return False
        self._last = signature
        return True


def scene_middles(path: Path) -> list[int]:
    """The number of the middle frame of each scene, scenes being what lies between two cuts.

    Reads the whole film once; keeps nothing of it but the cuts.
    """
    import cv2
    import numpy as np
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(min_scene_len=SHORTEST_SCENE_S)
    cuts = [0]
    number = -1
    with opened(path) as capture:
        rate = frame_rate(capture)
        for number, _ in grabbed(capture):
            image = retrieved(capture, path, number)
            scale = SCENE_WIDTH / image.shape[1]
            if scale < 1:
                size = (SCENE_WIDTH, max(1, round(image.shape[0] * scale)))
                image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
            found = detector.process_frame(FrameTimecode(number, fps=rate), image)
            cuts.extend(cut.frame_num for cut in found)
    if number < 0:
        raise BadInput(f"{path.name}: not one frame of this video can be decoded")
    ends = [*cuts[1:], number + 1]
    return [start + (end - start) // 2 for start, end in zip(cuts, ends, strict=True)]
