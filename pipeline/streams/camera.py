"""A stream opened by OpenCV, and why one cannot be."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from model.errors import GpucaptError
from pipeline.media.opencv_capture import keep_opencv_quiet
from pipeline.streams.address import Address

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

OPEN_TIMEOUT_S = READ_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 3.0
_FAILURES_IN_A_ROW = 20
"""`grab` fails at the end and at a damaged packet alike."""
_SLOW_FAILURE_S = 1.0
"""A failure that took so long was a time-out: nothing comes any more."""

_FORMATS = (
    "aac,asf,avi,dash,flv,h264,hevc,hls,live_flv,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,"
    "mpegvideo,mpjpeg,ogg,rtp,rtsp,sdp,webvtt"
)
_SENT_AT_ONCE = ("http", "https", "tcp")
"""Servers that send as fast as is read: what lies there may be a recording, or begin with one."""
_MOTION_JPEG = tuple(int.from_bytes(tag, "little") for tag in (b"MJPG", b"mjpg", b"jpeg"))
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}


class StreamUnavailable(GpucaptError):
    """A stream that cannot be opened."""


class OpenStream:
    """A stream that is open, read by one thread."""

    def __init__(self, capture: cv2.VideoCapture, scheme: str) -> None:
        import cv2

        self._capture = capture
        # Motion JPEG has no times of its own: FFmpeg makes up some.
        has_times = int(capture.get(cv2.CAP_PROP_FOURCC)) not in _MOTION_JPEG
        self.is_paced = scheme in _SENT_AT_ONCE and has_times
        """Whether it is to be read no faster than it plays."""
        self.has_known_end = 0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < float(1 << 40)
        """Whether it is a recording: where it ends it has not been lost."""

    def grabbed(self, go_on: Callable[[], bool]) -> Iterator[float]:
        """Take frame after frame, as long as ``go_on`` says so: its time in seconds as the stream says it.

        Ends where no more comes: at the stream's end, or since it was lost.
        """
        import cv2

        failures = 0
        while go_on() and failures < _FAILURES_IN_A_ROW:
            began = time.monotonic()
            if self._capture.grab():
                failures = 0
                yield self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            elif time.monotonic() - began > _SLOW_FAILURE_S:
                return
            else:
                failures += 1

    def image(self) -> NDArray[np.uint8] | None:
        """The frame that was grabbed: (height, width, 3), RGB; None where it is damaged."""
        import cv2
        import numpy as np

        found, image = self._capture.retrieve()
        if not found:
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@contextmanager
def opened(address: Address) -> Iterator[OpenStream]:
    """The stream, to be closed at the end. Raises StreamUnavailable; ``why_not`` finds the reason."""
    keep_opencv_quiet(_options(address))
    import cv2

    if address.is_device:
        capture = cv2.VideoCapture(address.url, cv2.CAP_V4L2)
    else:
        limits = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_TIMEOUT_S * 1000)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(READ_TIMEOUT_S * 1000)),
        ]
        capture = cv2.VideoCapture(address.url, cv2.CAP_FFMPEG, limits)
    try:
        if not capture.isOpened():
            raise StreamUnavailable(f"{address.shown} cannot be opened")
        yield OpenStream(capture, address.scheme)
    finally:
        capture.release()


def _options(address: Address) -> str:
    """FFmpeg's options: what a server sends may name other addresses, but no file of this machine."""
    protocols = "crypto,data,hls,http,httpproxy,https,rtmp,rtmps,rtmpt,rtp,srtp,tcp,tls,udp"
    # Where UDP is lost on the way cameras' pictures are torn: TCP first.
    only = {"rtsp": "|rtsp_flags;prefer_tcp", "rtsps": "|rtsp_flags;prefer_tcp"}
    only |= dict.fromkeys(("udp", "rtp"), "|overrun_nonfatal;1|fifo_size;50000")
    return f"protocol_whitelist;{protocols}|format_whitelist;{_FORMATS}{only.get(address.scheme, '')}"


def why_not(address: Address) -> str:
    """Why a stream cannot be opened, as one line for people, as far as that can be found out."""
    reason = _why_no_device(address.url) if address.is_device else _why_no_answer(address)
    return f"{address.shown} cannot be opened: {reason}"


def check_device(address: Address) -> None:
    """Raises StreamUnavailable for a camera of this machine that is none, or is not there."""
    reason = _why_unusable(address.url) if address.is_device else ""
    if reason:
        raise StreamUnavailable(f"{address.shown} cannot be opened: {reason}")


def _why_no_device(path: str) -> str:
    return _why_unusable(path) or (
        "it is no camera that OpenCV can use, or another program has it; try /dev/video0, /dev/video2, …"
    )


def _why_unusable(path: str) -> str:
    """Why a device cannot even be opened as a file; "" where it can."""
    try:
        if not stat.S_ISCHR(Path(path).stat().st_mode):
            return "it is no camera"
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return "there is no such device; plug the camera in, and hand it to a container by --device"
        if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() == 0:
            return "it may not be used here; hand it to the container by --device"
        if error.errno in (errno.EACCES, errno.EPERM):
            return "this user may not use it; add the user to the group video"
        if error.errno == errno.EBUSY:
            return "another program uses it; end that one"
        return f"{error.strerror}"
    return ""


def _why_no_answer(address: Address) -> str:
    parts = urlsplit(address.url)
    port = parts.port or _DEFAULT_PORTS.get(address.scheme)
    if address.scheme in ("udp", "rtp") or parts.hostname is None or port is None:
        return (
            f"nothing that can be decoded has come within {OPEN_TIMEOUT_S:.0f} s; is it sent to this machine,"
            " and let through to it?"
        )
    try:
        with socket.create_connection((parts.hostname, port), timeout=_PROBE_TIMEOUT_S):
            pass
    except socket.gaierror:
        return f"no host is called {parts.hostname}; check the address"
    except ConnectionRefusedError:
        return f"nothing listens there at port {port}; is it on, and is that the port?"
    except OSError:
        return "the host does not answer; is it on, and in reach of this machine?"
    return "it answers, but sends no video; check the path, and the user and the password"
