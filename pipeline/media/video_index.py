"""The packets of a video, read without decoding them: when each frame is shown, and where decoding can begin.

Reading packets is quick, and the same file always has the same ones in the same order. So a packet's place in
the file says which frame it is, wherever decoding begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.errors import BadInput
from pipeline.media.h264 import H264Packets
from pipeline.media.liveness import PULSE
from pipeline.media.opencv_capture import codec_tag
from pipeline.media.probe import StreamFacts, best_first, candidates, context_of, facts_of, open_container

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

LEAP_S = 10.0
"""No encoder shows frames in an order that is further from that of their packets."""

JITTER_S = 0.1
"""A clock that falls back by less was not set back; its recorder is careless."""

MOST_SMEARED_S = 10.0
"""Without a key frame, pictures are taken for right again so long after one that could not be decoded."""

MOST_OUTLIERS = 32
"""So many packets in a row may have a time that is off; more of them are a recording of another time."""

_LOOKED_AT = 4096
"""Bytes of a packet in which its first slice begins, as a rule."""

_SEEKABLE = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs of which a frame that is marked as a key frame needs none before it."""


@dataclass(slots=True)
class VideoIndex:
    """Frames are numbered from 0 in the order in which they are shown, also those that cannot be decoded."""

    facts: StreamFacts
    times_s: array[float]
    """When each frame is shown, by its number: seconds since the file's earliest start. Never falls."""
    packets: array[int]
    """The packet of each frame, by its number. Packets are numbered from 0 in the order of the file."""
    numbers: array[int]
    """The frame of each packet, by the packet's number; -1 where a packet is not shown."""
    keys: array[int] = field(default_factory=lambda: array("q"))
    """The packets, rising, at which decoding can begin; at least the first one."""
    key_numbers: array[int] = field(default_factory=lambda: array("q"))
    """For each of them, the first frame that decoding from there leads to."""
    strays: frozenset[int] = frozenset()
    """The frames whose time is so far off that they are shown out of their place."""
    is_ordered: bool = True
    """Whether the packets say when they are shown. If not, only decoding all of them tells which is which."""

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.times_s)

    @property
    def first(self) -> int:
        """The first frame that can be decoded: a recording may begin in the middle of a group of pictures."""
        return self.key_numbers[0] if self.count else 0

    @property
    def end_s(self) -> float:
        """When the last frame has been shown."""
        step_s = 1 / self.facts.rate
        if self.count > 1:
            step_s = (self.times_s[-1] - self.times_s[0]) / (self.count - 1) or step_s
        return self.times_s[-1] + min(step_s, 1 / self.facts.rate)

    def key_before(self, number: int) -> int:
        """The last packet from which decoding leads to this frame.

        What is sent after a key frame and shown before it needs the frames before it.
        """
        by_packet = bisect_right(self.keys, self.packets[number])
        return self.keys[max(0, min(by_packet, bisect_right(self.key_numbers, number)) - 1)]

    def healed_from(self, packet: int) -> int:
        """The packet from which pictures are right again after one that cannot be decoded."""
        following = bisect_right(self.keys, packet)
        key = self.keys[following] if following < len(self.keys) else len(self.numbers)
        return min(key, packet + 1 + round(MOST_SMEARED_S * self.facts.rate))


def index_of(path: Path) -> VideoIndex:
    """Read the packets of a video. Raises BadInput when no stream in it can be shown."""
    with open_container(path) as container:
        streams = best_first(candidates(container))
        if not streams:
            raise BadInput(f"{path.name}: there is no moving picture in it, only a cover or sound")
        if context_of(streams[0]) is None:
            raise BadInput(
                f"{path.name}: no decoder here knows its codec, {codec_tag(path)};"
                " convert it, for instance by ffmpeg -c:v libx264"
            )
        streams = [stream for stream in streams if context_of(stream) is not None]
        found = _packets(container, streams)
        # A film of one frame is shown if it is all there is.
        stream = next((one for one in streams if found[one.index].count > 1), streams[0])
        return found[stream.index].index(container, stream)


def _packets(container: InputContainer, streams: list[VideoStream]) -> dict[int, _Packets]:
    import av

    found = {stream.index: _Packets(stream) for stream in streams}
    try:
        for packet in container.demux(streams):
            PULSE.beat()
            if packet.size:  # otherwise the last frame is shown again, or it is the end
                found[packet.stream_index].add(cast("Packet[VideoStream]", packet))
    except (av.FFmpegError, OSError):  # cut off: what came before it is there
        pass
    return found


class _Packets:
    """Takes the packets of one stream in the order of the file."""

    def __init__(self, stream: VideoStream) -> None:
        context = context_of(stream)
        self._codec = context.codec.canonical_name if context is not None else ""
        self._is_intra = context is not None and context.codec.intra_only
        extradata = bytes(context.extradata or b"") if context is not None else b""
        self._h264 = H264Packets(extradata) if self._codec == "h264" else None
        self._base_s = float(stream.time_base) if stream.time_base else 1e-3
        self._clock = _Clock(self._base_s)
        self._times: array[float] = array("d")
        self._shown = bytearray()
        self._keys: array[int] = array("q")
        self._has_all_times = True

    @property
    def count(self) -> int:
        return len(self._times)

    def add(self, packet: Packet[VideoStream]) -> None:
        is_key = self._is_intra or self._is_key(packet)  # first: what comes with it says what follows
        is_shown = not packet.is_discard and not self._is_part(packet)
        self._has_all_times = self._has_all_times and (packet.pts is not None or not is_shown)
        if is_key:
            self._keys.append(len(self._times))
        self._shown.append(is_shown)
        self._times.append(self._clock.time_of(packet.pts, packet.dts, is_shown=is_shown))

    def _is_part(self, packet: Packet[VideoStream]) -> bool:
        """Whether a packet is none of a frame that is shown, but belongs to one."""
        if self._codec == "vp8":
            return _is_hidden_vp8(packet)
        return self._h264 is not None and self._h264.is_second_field(
            memoryview(packet)[:_LOOKED_AT].tobytes()
        )

    def _is_key(self, packet: Packet[VideoStream]) -> bool:
        if not packet.is_keyframe or self._codec not in _SEEKABLE:
            return False
        return self._h264 is None or self._h264.is_key(bytes(packet))

    def index(self, container: InputContainer, stream: VideoStream) -> VideoIndex:
        start_us = cast("int | None", container.start_time)
        start_s = min(self._times, default=0.0) if start_us is None else start_us / 1_000_000
        own_s = float((stream.start_time or 0) * (stream.time_base or 0))
        if "mpegts" in container.format.name and own_s - start_s > LEAP_S:
            # The earliest start is that of another programme, whose clock is another.
            starts = (float((one.start_time or 0) * (one.time_base or 0)) for one in container.streams)
            start_s = min(one for one in starts if abs(one - own_s) <= LEAP_S)
        order = [packet for packet, is_shown in enumerate(self._shown) if is_shown]
        is_ordered = self._has_all_times and not _counts_only(container, stream)
        times = self._times
        if is_ordered:
            order.sort(key=times.__getitem__)
            shown = array("d", (times[packet] for packet in order))
        else:
            shown = array("d", sorted(times[packet] for packet in order))
        numbers = array("q", [-1]) * len(times)
        for number, packet in enumerate(order):
            numbers[packet] = number
        keys = self._keys if is_ordered and self._keys else array("q", [0] if order else [])
        key_numbers = array("q", (self._number_from(key, numbers, shown) for key in keys))
        return VideoIndex(
            facts=facts_of(container, stream),
            times_s=array("d", (round(at_s - start_s, 6) + 0.0 for at_s in shown)),
            packets=array("q", order),
            numbers=numbers,
            keys=keys,
            key_numbers=key_numbers,
            strays=frozenset(numbers[packet] for packet in _outliers(times)) if is_ordered else frozenset(),
            is_ordered=is_ordered,
        )

    def _number_from(self, key: int, numbers: array[int], shown: array[float]) -> int:
        """The first frame that is shown with a key frame, or after one that an edit list hides."""
        return numbers[key] if numbers[key] >= 0 else bisect_left(shown, self._times[key])


def _outliers(times: array[float]) -> Iterator[int]:
    """The packets whose time is far from that of those around them."""
    for packet, (before, at_s) in enumerate(pairwise(times), 1):
        if abs(at_s - before) > LEAP_S:
            for near in (packet - 1, packet):
                around = sorted(times[max(0, near - MOST_OUTLIERS) : near + MOST_OUTLIERS + 1])
                if abs(times[near] - around[len(around) // 2]) > LEAP_S:
                    yield near


def _counts_only(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the times only count the packets: AVI has none, and FFmpeg makes some up.

    Where frames are not shown in the order of their packets these are wrong; and old encoders of MPEG-4
    Part 2 pack two frames into one packet.
    """
    return "avi" in container.format.name.split(",") and stream.codec_context.name in _REORDERING


_REORDERING = ("h264", "hevc", "mpeg4")


class _Clock:
    """Turns the time stamps of packets into times that go on, where recordings were joined."""

    def __init__(self, base_s: float) -> None:
        self._base_s = base_s
        self._offset = 0
        self._last: int | None = None
        """The decoding time of the packet before, with the offset."""
        self._before_leap: int | None = None
        self._since_leap = 0
        self._step = max(1, round(0.04 / base_s))
        self._guess_s = 0.0

    def time_of(self, pts: int | None, dts: int | None, *, is_shown: bool) -> float:
        """When a packet is shown, in seconds."""
        if dts is not None and is_shown:  # what an edit list hides has times of its own
            self._follow(dts)
        stamp = pts if pts is not None else dts
        if stamp is None:
            self._guess_s += self._step * self._base_s
            return self._guess_s
        self._guess_s = (stamp + self._offset) * self._base_s
        return self._guess_s

    def _follow(self, dts: int) -> None:
        """See whether the clock was set back since the packet before, and if so go on from there."""
        now, leap = dts + self._offset, LEAP_S / self._base_s
        if self._last is None:
            self._last = now
            return
        if now > self._last + leap:
            self._before_leap, self._since_leap = self._last, 0
        elif now < self._last - JITTER_S / self._base_s:
            before = self._before_leap
            if before is not None and self._since_leap < MOST_OUTLIERS and abs(now - before) <= leap:
                self._before_leap = None  # it was the time of those packets that was off, not the clock
            else:
                self._offset += self._last + self._step - now
                now = self._last + self._step
        elif now > self._last and now - self._last < leap:
            self._step = now - self._last
        self._since_leap += 1
        self._last = now if abs(now - self._last) > JITTER_S / self._base_s else max(now, self._last)


def _is_hidden_vp8(packet: Packet[VideoStream]) -> bool:
    """A frame that others refer to and that is never shown itself (RFC 6386, section 9.1)."""
    return not memoryview(packet)[0] & 0x10
