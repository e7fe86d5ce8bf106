"""Scenes: what lies between two cuts. Cuts are found by PySceneDetect, and kept apart by time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.media.frame import Decoded

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

SCENE_WIDTH = 256  # pixels; cuts are looked for in frames made this narrow
SHORTEST_SCENE_S = 0.6
_LOOK_BACK_S = 5.0
"""So far before a passage the search for its cuts begins, or twice as far, and so on."""


@dataclass(frozen=True, slots=True)
class SceneSpan:
    """A scene by the numbers of its first frame and of its middle one, and when it ends, in seconds."""

    first: int
    middle: int
    end_s: float


class SmallFrames(Protocol):
    """What decodes the frames in which cuts are looked for."""

    def frames(self, wanted: Sequence[int], *, width: int | None = None) -> Iterator[Decoded]:
        """The frames with these numbers, made as narrow as ``width``."""


def scenes(
    reader: SmallFrames, times_s: array[float], end_s: float, first: int, begin: int, end: int
) -> Iterator[SceneSpan]:
    """The scenes that begin in a passage of a video, in order.

    The same scenes come of one passage or of many: whether a cut counts depends on those shortly before it.

    Args:
        times_s: when each frame is shown.
        end_s: when the last one has been shown.
        first: the number of the first frame that can be decoded.
        begin: the passage's first frame.
        end: the one after its last.
    """
    cuts = [first] if begin <= first else []
    for cut in _cuts(reader, times_s, first, begin):
        if cuts:
            yield _scene(times_s, cuts[-1], cut, times_s[cut])
            cuts.clear()
        if cut >= end:
            return
        if cut >= begin:
            cuts.append(cut)
    if cuts:
        yield _scene(times_s, cuts[-1], len(times_s), end_s)


def _scene(times_s: array[float], first: int, end: int, end_s: float) -> SceneSpan:
    middle = bisect_right(times_s, (times_s[first] + end_s) / 2, first, end) - 1
    return SceneSpan(first, max(first, middle), end_s)


def _cuts(reader: SmallFrames, times_s: array[float], first: int, begin: int) -> Iterator[int]:
    """The cuts from ``begin`` on, and perhaps some before it."""
    back_s = _LOOK_BACK_S
    while True:
        start = max(first, bisect_left(times_s, times_s[begin] - back_s)) if begin > first else first
        found = _raw_cuts(reader, range(start, len(times_s)))
        if start == first:
            yield from _apart(found, times_s, times_s[first])
            return
        before, rest = _until(found, begin)
        quiet_s = _quiet_before(before, times_s, start, begin)
        if quiet_s is not None:
            # After a while without a cut the next one counts, whatever came before.
            yield from _apart((cut for cut in (*before, *rest) if times_s[cut] >= quiet_s), times_s, None)
            return
        back_s *= 2


def _until(cuts: Iterator[int], begin: int) -> tuple[list[int], Iterable[int]]:
    before: list[int] = []
    for cut in cuts:
        if cut >= begin:
            return before, _with(cut, cuts)
        before.append(cut)
    return before, ()


def _with(first: int, rest: Iterator[int]) -> Iterator[int]:
    yield first
    yield from rest


def _quiet_before(cuts: list[int], times_s: array[float], start: int, begin: int) -> float | None:
    """The end of the first while without a cut, long enough, before the passage; None without one."""
    last_s = times_s[start] + SHORTEST_SCENE_S  # the detector needs some frames to begin with
    for at_s in (*(times_s[cut] for cut in cuts), times_s[begin]):
        if at_s - last_s >= SHORTEST_SCENE_S:
            return at_s
        last_s = max(last_s, at_s)
    return None


def _apart(cuts: Iterable[int], times_s: array[float], last_s: float | None) -> Iterator[int]:
    """Without those that come too soon after one that counts."""
    for cut in cuts:
        if last_s is None or times_s[cut] - last_s >= SHORTEST_SCENE_S:
            last_s = times_s[cut]
            yield cut


def _raw_cuts(reader: SmallFrames, numbers: range) -> Iterator[int]:
    """All cuts, however close to each other."""
    import cv2
    import numpy as np
    from scenedetect import AdaptiveDetector, FrameTimecode

    # The detector goes by frames; times are looked at here, as headers may claim any rate.
    detector = AdaptiveDetector(min_scene_len=1)
    shown: list[int] = []
    size: tuple[int, int] | None = None
    for place, decoded in enumerate(reader.frames(numbers, width=SCENE_WIDTH)):
        shown.append(decoded.number)
        image = decoded.image[..., ::-1]
        size = size or (image.shape[1], image.shape[0])
        if size != (image.shape[1], image.shape[0]):  # recordings that were joined
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        found = detector.process_frame(FrameTimecode(place, fps=25.0), image)
        yield from (shown[cut.frame_num - place - 1] for cut in found)
        del shown[:-64]
