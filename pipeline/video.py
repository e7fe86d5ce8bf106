"""Videos through OpenCV's FFmpeg: which frames, at which time, with no more work than that needs.

`grab` decodes a frame and `retrieve` converts it to pixels; only chosen frames are retrieved. Frames are
numbered as they are decoded, so that the numbers do not depend on what a container's header claims.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.selection import Selection

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.frames import Frame

ROUNDING_MS = 0.51
"""Containers such as Matroska round times to milliseconds: missing a time by this still counts as 'at' it."""

DAMAGED_IN_A_ROW = 200
"""`grab` fails at the end and at a damaged packet alike; the film is over after so many failures in a row."""

DUPLICATE_RMS = 4.0
"""Root mean square difference, of 255, below which two frames look the same (noise stays under 1)."""

SIGNATURE_SIZE = 32  # pixels square
SCENE_WIDTH = 256  # pixels; scene cuts are looked for in frames made this narrow
SHORTEST_SCENE_S = 0.6
DECODER_THREADS = 16  # at most; more buy no speed and hold a frame each

_SAFE_INPUT = (
    # A file that somebody dropped may be a playlist that names other files or hosts; only films are opened.
    "protocol_whitelist;file|format_whitelist;"
    "asf,avi,flv,h264,hevc,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,mxf,ogg"
)

Choose = Callable[[int, float], bool]
"""Whether a frame is selected, given its number and its time in ms; asked for each frame in order."""


def read(
    path: Path, selection: Selection, first_position: int, frame_range: tuple[int, int] | None
) -> Iterator[Frame]:
    """As frames.read_video, which see."""
    first, end = frame_range or (0, None)
    choose = _chooser(path, selection)
    is_new = _DuplicateFilter() if selection.skip_duplicates else None
    position = 0
    number = -1
    with _opened(path) as capture:
        for number, at_ms in _grabbed(capture):
            if end is not None and number >= end:
                return
            if not choose(number, at_ms):
                continue
            wanted = position >= first_position and number >= first
            if wanted or is_new:
                image = _retrieved(capture, path, number)
                if is_new and not is_new(image):
                    continue
                if wanted:
                    yield _frame(position, number, at_ms, image)
            position += 1
            if position == selection.max_frames:
                return
    if number < 0:
        raise BadInput(f"{path.name}: not one frame of this video can be decoded")


def _frame(position: int, number: int, at_ms: float, bgr: NDArray[np.uint8]) -> Frame:
    import cv2
    import numpy as np

    from pipeline.frames import Frame

    image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return Frame(position, number, round(at_ms / 1000, 6), np.asarray(image, dtype=np.uint8))


def _chooser(path: Path, selection: Selection) -> Choose:
    if selection.scenes:
        middles = iter(scene_middles(path))
        return _AtNumbers(middles)
    interval_s = selection.interval_s
    return _AtTimes(interval_s * 1000) if interval_s is not None else lambda number, at_ms: True


class _AtTimes:
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


class _DuplicateFilter:
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
    with _opened(path) as capture:
        rate = _frame_rate(capture)
        for number, _ in _grabbed(capture):
            image = _retrieved(capture, path, number)
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


def _grabbed(capture: cv2.VideoCapture) -> Iterator[tuple[int, float]]:
    """Decode frame after frame: its number, and its time in milliseconds, which always rises."""
    import cv2

    step_ms = 1000 / _frame_rate(capture)
    last_ms: float | None = None
    number = -1
    failures = 0
    while failures < DAMAGED_IN_A_ROW:
        if not capture.grab():
            failures += 1
            continue
        failures = 0
        number += 1
        at_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        if last_ms is not None:
            # Some streams (AVI, raw H.264) have no time on every frame, and 0 is then what OpenCV says.
            if at_ms > last_ms:
                step_ms = at_ms - last_ms
            else:
                at_ms = last_ms + step_ms
        last_ms = at_ms
        yield number, at_ms


def _retrieved(capture: cv2.VideoCapture, path: Path, number: int) -> NDArray[np.uint8]:
    import numpy as np

    found, image = capture.retrieve()
    if not found:  # leaving it out would number the frames after it differently in a resumed run
        raise BadInput(f"{path.name}: frame {number} decodes to no kind of picture that is known")
    return np.asarray(image, dtype=np.uint8)


def _frame_rate(capture: cv2.VideoCapture) -> float:
    import cv2

    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0.01 <= rate <= 1000 else 25.0


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    _require_content(path)
    _keep_opencv_quiet()
    import cv2

    with _utf8_name(path) as name:
        threads = max(1, min(DECODER_THREADS, cv2.getNumberOfCPUs()))
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
        try:
            if not capture.isOpened():
                raise BadInput(f"{path.name}: no video that can be read; it is damaged or something else")
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


def _keep_opencv_quiet() -> None:
    """What is wrong with a file is said once, by us. Must come before OpenCV opens its first video."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _SAFE_INPUT)
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
        with tempfile.TemporaryDirectory(prefix="gpucapt-") as folder:
            link = Path(folder) / "video"
            link.symlink_to(name)
            yield str(link)
    else:
        yield name
