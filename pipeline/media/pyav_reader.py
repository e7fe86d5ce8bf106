"""A video decoded by PyAV: only the frames that are wanted, and those without which they cannot be decoded.

Decoding begins at the last key frame before a wanted frame, and goes on from there to the next wanted one
where no key frame lies between them. On the way, frames to which no other refers are not decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

from pipeline.media.frame import Decoded
from pipeline.media.liveness import PULSE
from pipeline.media.probe import decoder_of, open_container
from pipeline.media.rgb_filter import RgbFilter, display_matrix
from pipeline.media.video_index import VideoIndex
from pipeline.records.video_facts import Gap

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_SKIPPING = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8"})
"""Codecs whose decoders can be told for each packet to skip it; that of AV1 keeps what it is told first."""


class PyAVReader:
    """Reads one video, of which the index is known."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self._index = index
        self.gap_at_end: Gap | None = None
        """What could not be decoded after the last frame; known when ``frames`` has ended."""

    def frames(self, wanted: Sequence[int], *, width: int | None = None) -> Iterator[Decoded]:
        """See ``VideoReader``."""
        at = 0
        with RgbFilter(width) as rgb, _Decoding(self._path, self._index) as decoding:
            for number, frame in decoding.wanted(wanted):
                if number in self._index.strays:
                    continue  # it comes last
                while at < len(wanted) and wanted[at] < number:
                    found = self._first_from(wanted[at], rgb)
                    if found is None:
                        return
                    yield found
                    at = bisect_right(wanted, found.number, at)
                if at < len(wanted) and wanted[at] == number:
                    yield Decoded(number, rgb(frame, decoding.aspect))
                    at += 1
            while at < len(wanted) and (found := self._first_from(wanted[at], rgb)) is not None:
                yield found
                at = bisect_right(wanted, found.number, at)

    def _first_from(self, number: int, rgb: RgbFilter) -> Decoded | None:
        """The first frame from this one on that can be decoded."""
        index, is_stray = self._index, number in self._index.strays
        with _Decoding(self._path, index, threads=1) as decoding:
            for found, frame in decoding.all_from(index.key_before(number)):
                if found == number or (found > number and not is_stray and found not in index.strays):
                    is_gap = found > number and decoding.errors
                    gap = (self._lost_from(number), index.times_s[found]) if is_gap else None
                    return Decoded(found, rgb(frame, decoding.aspect), gap)
            if decoding.errors:
                self.gap_at_end = (self._lost_from(number), index.end_s)
        return None

    def _lost_from(self, number: int) -> float:
        """Where the stretch begins in which this frame lies and nothing can be decoded, in seconds."""
        index, back = self._index, 1
        here = bisect_right(index.keys, index.key_before(number)) - 1
        while True:
            with _Decoding(self._path, index, threads=1) as decoding:
                frames = decoding.all_from(index.keys[max(0, here - back)], index.packets[number])
                last = max((found for found, _ in frames if found < number), default=None)
            if last is not None:
                return index.times_s[last + 1]
            if back > here:
                return index.times_s[index.first]
            back *= 2


def is_mirrored(path: Path, stream: int) -> bool:
    """Whether the display matrix of a stream's first frame mirrors it."""
    import av

    with open_container(path) as container:
        try:
            frame = next(container.decode(cast("VideoStream", container.streams[stream])), None)
        except (av.FFmpegError, OSError):
            return False
    matrix = None if frame is None else display_matrix(frame)
    return matrix is not None and matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0


class _Decoding:
    """One passage through the packets of a video, in the order of the file."""

    def __init__(self, path: Path, index: VideoIndex, *, threads: int | None = None) -> None:
        self._index = index
        self._cleanup = ExitStack()
        try:
            self._container = self._cleanup.enter_context(open_container(path))
            stream = cast("VideoStream", self._container.streams[index.facts.index])
            self._decoder = decoder_of(stream, threads=threads)
            self._decoder.open(strict=False)
        except BaseException:
            self._cleanup.close()
            raise
        self._packets = enumerate(packet for packet in self._demuxed(stream) if packet.size)
        self.aspect = float(stream.sample_aspect_ratio or 1)
        self._lag = self._decoder.thread_count
        """An error may be that of a packet so many before the one that is told of it."""
        self._wrong = range(0)
        """Packets whose pictures may be wrong, since one that they refer to could not be decoded."""
        self.errors = 0
        """How many packets could not be decoded."""
        self._output = -1

    def wanted(self, numbers: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Those of the frames with these rising numbers that can be decoded."""
        if not self._index.is_ordered:
            is_wanted = frozenset(numbers)
            yield from ((number, frame) for number, frame in self.all_from(0) if number in is_wanted)
            return
        is_wanted_packet = bytearray(len(self._index.numbers))
        for number in numbers:
            is_wanted_packet[self._index.packets[number]] = True
        for first, last in self._stretches(numbers):
            for place, packet in self._until(self._whole(last)):
                if place >= first:
                    # The second field of a frame is treated as the first.
                    if self._index.facts.codec in _SKIPPING and self._index.numbers[place] >= 0:
                        self._decoder.skip_frame = "DEFAULT" if is_wanted_packet[place] else "NONREF"
                    yield from self._decoded(place, packet)
            yield from self._decoded(last, None)
            self._decoder.flush_buffers()

    def all_from(self, key: int, last: int | None = None) -> Iterator[tuple[int, VideoFrame]]:
        """All frames that can be decoded beginning with a packet, up to the ``last`` one."""
        self._decoder.skip_frame = "DEFAULT"
        place = key
        for place, packet in self._packets if last is None else self._until(last):
            if place >= key:
                yield from self._decoded(place, packet)
        yield from self._decoded(place, None)

    def _stretches(self, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The first and the last packet of each stretch that is decoded without leaving one out."""
        index, first, last = self._index, -1, -1
        for number in numbers:
            key, own = index.key_before(number), index.packets[number]
            if first < 0:
                first, last = key, own
            elif key <= last + 1:
                last = max(last, own)
            else:
                yield first, last
                first, last = key, own
        if first >= 0:
            yield first, last

    def _whole(self, last: int) -> int:
        """The last packet of the frame that this one begins."""
        while last + 1 < len(self._index.numbers) and self._index.numbers[last + 1] < 0:
            last += 1
        return last

    def _until(self, last: int) -> Iterator[tuple[int, Packet[VideoStream]]]:
        for place, packet in self._packets:
            yield place, packet
            if place >= last:
                return

    def _demuxed(self, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        import av

        try:
            for packet in self._container.demux(stream):
                PULSE.beat()
                yield packet
        except (av.FFmpegError, OSError):  # the file is cut off
            return

    def _decoded(self, place: int, packet: Packet[VideoStream] | None) -> Iterator[tuple[int, VideoFrame]]:
        import av

        if packet is not None:
            # Decoders hand on the time of the packet that a frame is shown by: here, its place.
            packet.pts = packet.dts = place
        try:
            frames = self._decoder.decode(packet)
        except (av.FFmpegError, OSError, ValueError):
            self.errors += 1
            first, end = max(0, place - self._lag + 1), self._index.healed_from(place)
            if first < self._wrong.stop:  # pictures that an earlier one spoiled may still come
                first, end = min(first, self._wrong.start), max(end, self._wrong.stop)
            self._wrong = range(first, end)
            return
        for frame in frames:
            if not self._index.is_ordered:
                self._output += 1
                yield min(self._output, self._index.count - 1), frame
            elif frame.pts is not None and frame.pts not in self._wrong:
                number = self._index.numbers[frame.pts]
                if number >= 0:
                    yield number, frame

    def __enter__(self) -> _Decoding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()
