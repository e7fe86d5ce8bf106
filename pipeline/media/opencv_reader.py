"""A film opened by OpenCV's FFmpeg: frame after frame with its number and its time.

`grab` decodes a frame and `retrieve` converts it to pixels; only chosen frames are retrieved. Frames are
numbered as they are decoded, so that the numbers do not depend on what a container's header claims.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.runtime.temp_folders import ScratchFolder

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

DAMAGED_IN_A_ROW = 200
"""`grab` fails at the end and at a damaged packet alike; the film is over after so many failures in a row."""

DECODER_THREADS = 16  # at most; more buy no speed and hold a frame each

_SAFE_INPUT = (
    # A file that somebody dropped may be a playlist that names other files or hosts; only films are opened.
    "protocol_whitelist;file|format_whitelist;"
    "asf,avi,flv,h264,hevc,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,mxf,ogg"
)

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OUR_OPTIONS = "_GPUCAPT_CAPTURE_OPTIONS"
"""What was set here, or by the process that started this one: films and streams want different ones."""


@dataclass(frozen=True, slots=True)
class Grabbed:
    """The last frame that was decoded: its number, its time, and the time from the one before to it."""

    number: int
    at_ms: float
    step_ms: float


def grabbed(capture: cv2.VideoCapture, last: Grabbed | None = None) -> Iterator[tuple[int, float]]:
    """Decode frame after frame: its number, and its time in milliseconds, which always rises."""
    number, last_ms, step_ms = -1, -math.inf, 1000 / frame_rate(capture)
    if last is not None:
        number, last_ms, step_ms = last.number, last.at_ms, last.step_ms
    for at_ms in grabbed_times(capture):
        number += 1
        if number:
            # Some streams (AVI, raw H.264) have no time on every frame, and 0 is then what OpenCV says.
            if at_ms > last_ms:
                step_ms = at_ms - last_ms
            else:
                at_ms = last_ms + step_ms
        last_ms = at_ms
        yield number, at_ms


def grabbed_times(capture: cv2.VideoCapture) -> Iterator[float]:
    """Grab frame after frame, or packet after packet: its time in milliseconds as OpenCV says it."""
    import cv2

    failures = 0
    while failures < DAMAGED_IN_A_ROW:
        if capture.grab():
            failures = 0
            yield capture.get(cv2.CAP_PROP_POS_MSEC)
        else:
            failures += 1


def retrieved(capture: cv2.VideoCapture, path: Path, number: int) -> NDArray[np.uint8]:
    """The pixels of the frame that was grabbed: (height, width, 3), BGR, upright."""
    import numpy as np

    found, image = capture.retrieve()
    if not found:  # leaving it out would number the frames after it differently in a resumed run
        raise BadInput(f"{path.name}: frame {number} decodes to no kind of picture that is known")
    return np.asarray(image, dtype=np.uint8)


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames a second as the header says, or a guess."""
    import cv2

    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0.01 <= rate <= 1000 else 25.0


@contextmanager
def opened(path: Path, *, packets: bool = False) -> Iterator[cv2.VideoCapture]:
    """The film, to be closed at the end; with ``packets`` its packets come as they are, not decoded."""
    _require_content(path)
    keep_opencv_quiet(_SAFE_INPUT)
    import cv2

    with _utf8_name(path) as name:
        threads = max(1, min(DECODER_THREADS, cv2.getNumberOfCPUs()))
        how = [cv2.CAP_PROP_FORMAT, -1] if packets else [cv2.CAP_PROP_N_THREADS, threads]
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, how)
        try:
            if not capture.isOpened():
                raise BadInput(f"{path.name}: no video that can be read; it is damaged or something else")
            if not packets:
                capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
            yield capture
        finally:
            capture.release()


def _require_content(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise BadInput(f"{path.name}: the file is empty")
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be read: {error.strerror}") from error


def keep_opencv_quiet(options: str) -> None:
    """What is wrong with an input is said once, by us. Must come before OpenCV opens anything.

    ``options`` are for FFmpeg, unless whoever runs this has set others.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if os.environ.get(_OPTIONS) in (None, os.environ.get(_OUR_OPTIONS)):
        os.environ[_OPTIONS] = os.environ[_OUR_OPTIONS] = options
    import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextmanager
def _utf8_name(path: Path) -> Iterator[str]:
    """A name for the file that OpenCV can be given: it takes no bytes that are not UTF-8."""
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        with ScratchFolder() as folder:
            link = folder / "video"
            link.symlink_to(name)
            yield str(link)
    else:
        yield name
