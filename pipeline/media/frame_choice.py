"""Which frames of a video are chosen: by time, by number, by looks."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROUNDING_MS = 0.51
"""Containers such as Matroska round times to milliseconds: missing a time by this still counts as 'at' it."""

DUPLICATE_RMS = 4.0
"""Root mean square difference, of 255, below which two frames look the same (noise stays under 1)."""

SIGNATURE_SIZE = 32  # pixels square
_LOOKED_AT = 128
"""Pixels along the shorter side, at least, that a signature averages over; of larger frames each n-th one."""


class AtTimes:
    """The first frame at or after each multiple of an interval, counted from the first frame."""

    def __init__(self, interval_ms: float) -> None:
        self._interval_ms = interval_ms
        self._start_ms: float | None = None
        self._next_ms = -math.inf

    def __call__(self, at_ms: float) -> bool:
        """Whether a frame at this time is chosen; to be asked for each frame, in order."""
        if self._start_ms is None:
            self._start_ms = at_ms
        if at_ms + ROUNDING_MS < self._next_ms:
            return False
        # After a gap of several intervals the frame stands for all of them.
        passed = math.floor((at_ms - self._start_ms + ROUNDING_MS) / self._interval_ms)
        self._next_ms = self._start_ms + (passed + 1) * self._interval_ms
        return True


def chosen_by_time(times_s: array[float], first: int, interval_s: float | None) -> array[int]:
    """The numbers, rising, of the frames from ``first`` on that are chosen; without an interval all."""
    if interval_s is None or interval_s * 1000 < ROUNDING_MS:
        return array("q", range(first, len(times_s)))
    choose = AtTimes(interval_s * 1000)
    return array("q", (number for number in range(first, len(times_s)) if choose(times_s[number] * 1000)))


class Signature:
    """A small copy of a frame, by which frames are compared, so that noise averages out."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        """``image`` is (height, width, 3)."""
        import cv2
        import numpy as np

        # Averaging over all pixels of a large frame would take longer than decoding it.
        step = max(1, min(image.shape[:2]) // _LOOKED_AT)
        some = np.ascontiguousarray(image[::step, ::step])
        small = cv2.resize(some, (SIGNATURE_SIZE, SIGNATURE_SIZE), interpolation=cv2.INTER_AREA)
        self._pixels = np.asarray(small, dtype=np.float32)

    def is_like(self, other: Signature) -> bool:
        """Whether the two frames look the same."""
        import numpy as np

        return float(np.sqrt(np.mean((self._pixels - other._pixels) ** 2))) < DUPLICATE_RMS


class DuplicateFilter:
    """Whether a frame differs from the last one that did."""

    def __init__(self) -> None:
        self._last: Signature | None = None

    def __call__(self, image: NDArray[np.uint8]) -> bool:
        signature = Signature(image)
        if self._last is not None and signature.is_like(self._last):
            return False
        self._last = signature
        return True
