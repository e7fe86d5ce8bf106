"""Videos for tests, made by PyAV: each frame shows its own number, and everything else can be chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from pipeline.media.frame import Frame
from pipeline.media.video_reader import OpenVideo
from pipeline.records.frame_selection import Selection

Picture = NDArray[np.uint8]
"""(height, width, 3), RGB."""

BITS = 12
X264 = {"crf": "16", "preset": "veryfast"}


def numbered(number: int, width: int = 192, height: int = 96) -> Picture:
    """A grey picture with its number as bright and dark columns, the lowest bit at the left."""
    picture = np.full((height, width, 3), 110, np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        picture[height // 4 : -height // 4, left:right] = 230 if number >> bit & 1 else 25
    return picture


def number_of(picture: Picture) -> int:
    """The number that a picture shows, at any size."""
    height, width = picture.shape[:2]
    row = picture[height * 2 // 5 : height * 3 // 5].mean(axis=(0, 2))
    return sum(int(row[round((bit + 0.5) * width / BITS)] > 128) << bit for bit in range(BITS))


def is_numbered(picture: Picture) -> bool:
    """Whether the columns are as clear as they were drawn: no smear, no other picture, no black."""
    height = picture.shape[0]
    row = picture[height * 2 // 5 : height * 3 // 5].mean(axis=(0, 2))
    centres = [row[round((bit + 0.5) * picture.shape[1] / BITS)] for bit in range(BITS)]
    return all(value < 80 or value > 140 for value in centres) and abs(float(picture[:4].mean()) - 110) < 25


def corners(width: int = 160, height: int = 120) -> Picture:
    """Red and green above, blue and yellow below."""
    picture = np.zeros((height, width, 3), np.uint8)
    for (down, across), colour in COLOURS.items():
        picture[down * height // 2 :, across * width // 2 :] = colour
    return picture


COLOURS = {(0, 0): (220, 30, 30), (0, 1): (30, 200, 30), (1, 0): (30, 30, 220), (1, 1): (230, 220, 30)}


def shows_corners(picture: Picture) -> bool:
    """Whether a picture shows ``corners`` the right way round."""
    height, width = picture.shape[:2]
    return all(
        is_colour(picture[height * (1 + 2 * down) // 4, width * (1 + 2 * across) // 4], colour)
        for (down, across), colour in COLOURS.items()
    )


def is_colour(pixel: Picture, colour: tuple[int, int, int], most_off: int = 40) -> bool:
    """Whether a pixel has about this colour."""
    return bool(np.abs(pixel.astype(int) - np.array(colour)).max() <= most_off)


def read_video(path: Path, selection: Selection, *, backend: str = "auto", **options: Any) -> Iterator[Frame]:
    """The selected frames of a video, decoded in this process."""
    return OpenVideo(path, backend).frames(selection, **options)


@dataclass(slots=True)
class Track:
    """One video stream of a file that is to be made."""

    frames: Iterable[Picture | av.VideoFrame]
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: dict(X264))
    pixels: str = "yuv420p"
    rate: int = 25
    times: Sequence[int] | None = None
    """The time of each frame in units of ``base``; None: one after the other."""
    base: Fraction = Fraction(1, 25)
    disposition: Disposition | None = None
    aspect: Fraction | None = None
    set_up: Callable[[Any], None] = lambda stream: None
    change: Callable[[int, av.Packet], av.Packet | None] = lambda number, packet: packet
    """What becomes of each packet; None leaves it out."""


def write(path: Path, *tracks: Track, format: str | None = None, sound_s: float = 0) -> Path:
    """A file of these video streams, and of so many seconds of sound."""
    with av.open(str(path), "w", format=format) as container:
        codec = "libopus" if path.suffix == ".webm" else "aac"
        sound = container.add_stream(codec, rate=48_000) if sound_s else None
        streams = [_added(container, track) for track in tracks]
        packets = _sound(sound, sound_s) if sound is not None else []
        for track, stream in zip(tracks, streams, strict=True):
            made = [packet for picture in _pictures(track) for packet in stream.encode(picture)]
            made += stream.encode(None)
            changed = (track.change(number, packet) for number, packet in enumerate(made))
            packets += [packet for packet in changed if packet is not None]
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
    return path


def _added(container: Any, track: Track) -> Any:
    stream = container.add_stream(track.codec, rate=track.rate, options=track.options)
    frames = iter(track.frames)
    first = next(frames)
    track.frames = [first, *frames]
    height, width = (first.height, first.width) if isinstance(first, av.VideoFrame) else first.shape[:2]
    stream.width, stream.height, stream.pix_fmt = width, height, track.pixels
    stream.codec_context.time_base = track.base
    if track.disposition is not None:
        stream.disposition = track.disposition
    if track.aspect is not None:
        stream.codec_context.sample_aspect_ratio = track.aspect
    track.set_up(stream)
    return stream


def _pictures(track: Track) -> Iterable[av.VideoFrame]:
    for number, picture in enumerate(track.frames):
        frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture)
        if frame.format.name != track.pixels:
            frame = frame.reformat(format=track.pixels)
        frame.pts = number if track.times is None else track.times[number]
        frame.time_base = track.base
        yield frame


def _sound(stream: Any, seconds: float) -> list[av.Packet]:
    packets, samples = [], 960
    for number in range(int(seconds * 48_000 / samples)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = 48_000, number * samples, Fraction(1, 48_000)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write (a, b, c, d) of a display matrix into the track header of an MP4 or MOV."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    for place, value in enumerate((a, b, 0, c, d, 0)):
        data[at + 4 * place : at + 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def blank_packets(path: Path, numbers: range, stream: int = 0) -> Path:
    """Overwrite packets with zeros, as a bad disk does."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, bytes(packet)) for packet in container.demux(video=stream) if packet.size]
    data = bytearray(path.read_bytes())
    for position, packet in packets[numbers.start : numbers.stop]:
        at = data.index(packet, position)  # containers put headers of their own before it
        data[at : at + len(packet)] = bytes(len(packet))
    path.write_bytes(data)
    return path
