"""Beginning in the middle of a film, exactly: the same frame numbers, times and pixels as from its start.

The packets of a film are read without decoding them, which is quick: their times, in order, are what the
decoder is going to say, so the n-th is the time of frame n; and some begin with a picture that needs none
before it. From such a key frame the decoder can start. Whatever does not fit (times that are missing or
double, a codec whose key frames cannot be told for sure, a decoder that says other times) is doubt, and
where there is doubt a film is decoded from its start.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.media.opencv_reader import Grabbed, grabbed, grabbed_times, opened

if TYPE_CHECKING:
    import cv2

_HEAD = 48
"""So many frames at the start are decoded to see whether the decoder says the times that the packets say."""

_TRIES = 6
_INTRA = ord("I")


@dataclass(slots=True)
class Index:
    """What the packets of a film tell of its frames."""

    count: int
    """How many packets there are: as a rule, how many frames."""
    times_ms: array[float] = field(default_factory=lambda: array("d"))
    """The time of each frame, by its number; empty where that cannot be told for sure."""
    keys: list[int] = field(default_factory=list)
    """The numbers, rising, of the frames at which decoding can begin."""

    @property
    def is_exact(self) -> bool:
        """Whether the times are sure, so that frames can be found by them."""
        return bool(self.times_ms)

    def says(self, number: int, at_ms: float) -> bool:
        """Whether frame ``number`` is at this time."""
        return number < len(self.times_ms) and self.times_ms[number] == at_ms

    def before(self, number: int) -> Grabbed:
        """The state of a decoder that is about to decode frame ``number`` > 0."""
        at_ms = self.times_ms[number - 1]
        step_ms = at_ms - self.times_ms[number - 2] if number > 1 else math.inf
        return Grabbed(number - 1, at_ms, step_ms)


def index_of(path: Path) -> Index:
    """Read a film's packets; none where that is not possible."""
    try:
        times, keys_ms = _packets(path)
        rises = all(one < other for one, other in pairwise(times))
        if keys_ms and rises and _begins_with(path, times):
            return Index(len(times), times, [bisect_left(times, at_ms) for at_ms in keys_ms])
    except BadInput:
        return Index(0)
    return Index(len(times))


def _packets(path: Path) -> tuple[array[float], list[float]]:
    """The times of all frames, and of those at which decoding can begin; both sorted."""
    import cv2

    times: array[float] = array("d")
    keys_ms = []
    with opened(path, packets=True) as capture:
        is_key = _KEY_FRAMES.get(_codec(capture))
        for at_ms in grabbed_times(capture):
            times.append(at_ms)
            if is_key is not None and capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME):
                found, data = capture.retrieve()
                if found and is_key(data.tobytes()):
                    keys_ms.append(at_ms)
    return array("d", sorted(times)), sorted(keys_ms)


def _begins_with(path: Path, times: array[float]) -> bool:
    """Whether the decoder, too, begins with a key frame and says these times."""
    import cv2

    with opened(path) as capture:
        for number, at_ms in islice(grabbed(capture), min(_HEAD, len(times))):
            if at_ms != times[number] or (number == 0 and capture.get(cv2.CAP_PROP_FRAME_TYPE) != _INTRA):
                return False
    return True


def land(capture: cv2.VideoCapture, index: Index, number: int) -> Iterator[tuple[int, float]] | None:
    """The frames from ``number`` on, as ``grabbed``; None in doubt, and then the capture is anywhere."""
    import cv2

    key = index.keys[bisect_right(index.keys, number) - 1] if index.is_exact else 0
    if key == 0:
        return None
    here = _at_or_before(capture, index, key)
    if here is None:
        return None
    while here < key:
        if not capture.grab():
            return None
        at_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        here = max(here, bisect_left(index.times_ms, at_ms))
        if here == key and not index.says(key, at_ms):
            return None
    if here != key or capture.get(cv2.CAP_PROP_FRAME_TYPE) != _INTRA:
        return None
    if key == number:
        last = Grabbed(key, index.times_ms[key], index.times_ms[key] - index.times_ms[key - 1])
        return chain([(key, index.times_ms[key])], grabbed(capture, last))
    for wanted in range(key + 1, number):
        if not capture.grab() or not index.says(wanted, capture.get(cv2.CAP_PROP_POS_MSEC)):
            return None
    return grabbed(capture, index.before(number))


def _at_or_before(capture: cv2.VideoCapture, index: Index, key: int) -> int | None:
    """Seek, and decode one frame that is not after ``key``; its number."""
    import cv2

    target_ms, back_ms = index.times_ms[key], 0.0
    for _ in range(_TRIES):
        # OpenCV goes by frame rate, so where the rate varies it may end up somewhere else.
        if not capture.set(cv2.CAP_PROP_POS_MSEC, max(0.0, target_ms - back_ms)) or not capture.grab():
            return None
        here = bisect_left(index.times_ms, capture.get(cv2.CAP_PROP_POS_MSEC))
        if here <= key:
            return here
        late_ms = index.times_ms[min(here, index.count - 1)] - target_ms
        back_ms = 2 * back_ms + late_ms + 1000.0
    return None


def _codec(capture: cv2.VideoCapture) -> str:
    import cv2

    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False).decode("latin-1")


def _h264_key(packet: bytes) -> bool:
    """The first slice is of an IDR picture: no picture after it refers to one before it."""
    kinds = (packet[at] & 0x1F for at in _after_start_codes(packet))
    return next((kind for kind in kinds if 1 <= kind <= 5), 0) == 5


def _hevc_key(packet: bytes) -> bool:
    """BLA, IDR and CRA pictures: only what is shown before them looks back past them."""
    kinds = (packet[at] >> 1 & 0x3F for at in _after_start_codes(packet))
    return 16 <= next((kind for kind in kinds if kind < 32), 0) <= 21


def _vp8_key(packet: bytes) -> bool:
    return packet[:1] != b"" and packet[0] & 1 == 0


def _vp9_key(packet: bytes) -> bool:
    """Frame marker 2, profile below 3, not a repeated frame, frame type 0."""
    return packet[:1] != b"" and packet[0] & 0b1100_1100 == 0b1000_0000 and packet[0] & 0b0011_0000 != 0x30


def _mpeg4_key(packet: bytes) -> bool:
    """The only picture in it is an I-VOP. (Old encoders packed two into one packet.)"""
    pictures = [at for at in _after_start_codes(packet) if packet[at] == 0xB6]
    return len(pictures) == 1 and packet[pictures[0] + 1 : pictures[0] + 2] < b"\x40"


def _always(packet: bytes) -> bool:
    return True


_KEY_FRAMES: dict[str, Callable[[bytes], bool]] = {
    "h264": _h264_key,
    "hevc": _hevc_key,
    "VP80": _vp8_key,
    "VP90": _vp9_key,
    "FMP4": _mpeg4_key,
    "MJPG": _always,
}
"""How the packet tells that a frame needs none before it, for the codecs for which this is sure."""


def _after_start_codes(packet: bytes) -> Iterator[int]:
    """Where, after 00 00 01, the units of a packet begin."""
    at = packet.find(b"\0\0\1")
    while 0 <= at < len(packet) - 3:
        yield at + 3
        at = packet.find(b"\0\0\1", at + 3)
