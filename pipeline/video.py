"""Videos through OpenCV's FFmpeg: which frames, at which time, without reading more than is needed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.frames import Frame
from pipeline.selection import Selection

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

ROUNDING_MS = 0.51
"""Containers such as Matroska round times to milliseconds: a frame counts as 'at' a time that it misses by this."""


def read(
    path: Path, selection: Selection, first_position: int, frame_range: tuple[int, int] | None
) -> Iterator[Frame]:
    """As frames.read_video, which see."""
    import cv2

    capture = _open(path)
    try:
        position = 0
        choose = _chooser(selection)
        last_kept: NDArray[np.float32] | None = None
        number = -1
        while capture.grab():
            number += 1
            if frame_range is not None and number >= frame_range[1]:
                break
            at_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            if not choose(number, at_ms):
                continue
            wanted = position >= first_position and (frame_range is None or number >= frame_range[0])
            image = None
            if wanted or selection.skip_duplicates:
                found, image = capture.retrieve()
                if not found:
                    continue
            if selection.skip_duplicates:
                signature = _signature(image)
                if last_kept is not None and float(abs(signature - last_kept).mean()) < 2.0:
                    continue
                last_kept = signature
            if wanted:
                yield Frame(position, number, round(at_ms / 1000, 6), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            position += 1
            if selection.max_frames is not None and position >= selection.max_frames:
                return
        if number < 0:
            raise BadInput(f"{path.name}: no frame of it can be decoded")
    finally:
        capture.release()


def _chooser(selection: Selection):
    interval = selection.interval_s
    if interval is None:
        return lambda number, at_ms: True
    start = None
    nxt = -math.inf

    def choose(number: int, at_ms: float) -> bool:
        nonlocal start, nxt
        if start is None:
            start = at_ms
        if at_ms + ROUNDING_MS < nxt:
            return False
        k = math.floor((at_ms - start + ROUNDING_MS) / (interval * 1000))
        nxt = start + (k + 1) * interval * 1000
        return True

    return choose


def _signature(image):
    import cv2
    import numpy as np

    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)


def _open(path: Path) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise BadInput(f"{path.name}: no video that can be read")
    return capture
