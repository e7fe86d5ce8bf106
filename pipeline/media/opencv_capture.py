"""Files opened by OpenCV's own FFmpeg."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.media.probe import DECODER_THREADS, SAFE_FORMATS, require_content, utf8_name

if TYPE_CHECKING:
    import cv2

_SAFE_INPUT = f"protocol_whitelist;file|format_whitelist;{SAFE_FORMATS}"

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OUR_OPTIONS = "_GPUCAPT_CAPTURE_OPTIONS"
"""What was set here, or by the process that started this one: videos and streams want different ones."""


@contextmanager
def open_capture(path: Path, *, packets: bool = False) -> Iterator[cv2.VideoCapture]:
    """The video, to be closed at the end; with ``packets`` its packets come as they are, not decoded."""
    require_content(path)
    keep_opencv_quiet(_SAFE_INPUT)
    import cv2

    with utf8_name(path) as name:
        threads = max(1, min(DECODER_THREADS, cv2.getNumberOfCPUs()))
        how = [cv2.CAP_PROP_FORMAT, -1] if packets else [cv2.CAP_PROP_N_THREADS, threads]
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, how)
        try:
            if not capture.isOpened():
                raise BadInput(f"{path.name}: OpenCV cannot read this video")
            if not packets:
                capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
            yield capture
        finally:
            capture.release()


def codec_tag(path: Path) -> str:
    """The four letters by which a file names its codec, also one that no decoder here knows."""
    import cv2

    with open_capture(path, packets=True) as capture:
        tag = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    return tag.to_bytes(4, "little").decode("latin-1").strip("\0 ") or "without a name"


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
