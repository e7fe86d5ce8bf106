"""A video decoded by OpenCV's own FFmpeg: all frames from the start, of which the wanted ones are converted.

It cannot choose a stream, lays nothing on white, deinterlaces nothing and mirrors nothing, so some videos
would come out wrong; ``why_not`` tells which.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.media.frame import Decoded
from pipeline.media.liveness import PULSE
from pipeline.media.opencv_capture import open_capture
from pipeline.media.video_index import VideoIndex
from pipeline.records.video_facts import Gap

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

_NOT_IN_THE_WHEEL = frozenset({"av1"})
"""Codecs that OpenCV's wheels leave to the graphics card."""


def why_not(index: VideoIndex, *, is_mirrored: bool) -> str | None:
    """Why OpenCV would show a video wrongly; None where it would not."""
    facts = index.facts
    reasons = (
        (not facts.is_first, "it shows only the first of several video streams"),
        (facts.codec in _NOT_IN_THE_WHEEL, f"its decoders do not know {facts.codec}"),
        (facts.is_interlaced, "it does not deinterlace"),
        (facts.has_alpha, "it does not know transparency"),
        (facts.is_hdr, "how it shows HDR depends on its version"),
        (not facts.is_square, "it takes all pixels for square"),
        (is_mirrored, "it turns pictures, but does not mirror them"),
        (bool(index.strays), "it shows a frame whose time is far off in the wrong place"),
        (index.first > 0, "it stops where a recording begins without a key frame"),
    )
    return next((reason for applies, reason in reasons if applies), None)


class OpenCVReader:
    """Reads one video, of which the index is known."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self._index = index
        self.gap_at_end: Gap | None = None
        """What could not be decoded after the last frame; known when ``frames`` has ended."""

    def frames(self, wanted: Sequence[int], *, width: int | None = None) -> Iterator[Decoded]:
        """See ``VideoReader``."""
        index, at, last = self._index, 0, -1
        gap: Gap | None = None
        with open_capture(self._path) as capture:
            for number, has_failed in self._grabbed(capture):
                if at == len(wanted):
                    return
                if has_failed:
                    gap = (gap[0] if gap else index.times_s[last + 1], index.times_s[number])
                if number >= wanted[at]:
                    yield Decoded(number, self._image(capture, number, width), gap)
                    gap, at = None, bisect_right(wanted, number, at)
                last = number
        if at < len(wanted) and last + 1 < index.count:
            self.gap_at_end = (index.times_s[last + 1], index.end_s)

    def _grabbed(self, capture: cv2.VideoCapture) -> Iterator[tuple[int, bool]]:
        """Decode frame after frame: its number, and whether packets before it could not be decoded."""
        import cv2

        index, number, has_failed = self._index, -1, False
        # `grab` fails at a damaged packet and at the end alike: there are no more than all packets.
        for _ in range(len(index.numbers) + 1):
            PULSE.beat()
            if not capture.grab():
                has_failed = True
                continue
            number += 1
            if index.is_ordered:
                at_s = index.times_s[0] + capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                number = max(number, bisect_left(index.times_s, at_s - 0.0005))
            if number >= index.count:
                return
            yield number, has_failed
            has_failed = False

    def _image(self, capture: cv2.VideoCapture, number: int, width: int | None) -> NDArray[np.uint8]:
        import cv2
        import numpy as np

        found, image = capture.retrieve()
        if not found:
            raise BadInput(f"{self._path.name}: frame {number} decodes to no kind of picture that is known")
        if width is not None and image.shape[1] > width:
            size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
