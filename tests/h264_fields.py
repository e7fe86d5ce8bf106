"""H.264 field by field (PAFF), which camcorders and broadcasters send and no encoder at hand makes.

Every picture is written as it is, without prediction (I_PCM), so that a few headers are all there is to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.videos import Picture

FRAME_NUMBER_BITS = ORDER_BITS = 8


class Bits:
    """A unit, bit by bit."""

    def __init__(self) -> None:
        self.bits = ""

    def number(self, value: int, count: int) -> Bits:
        self.bits += f"{value:0{count}b}"
        return self

    def golomb(self, *values: int) -> Bits:
        for value in values:
            code = f"{value + 1:b}"
            self.bits += "0" * (len(code) - 1) + code
        return self

    def align(self) -> Bits:
        self.bits += "0" * (-len(self.bits) % 8)
        return self

    def unit(self, header: int) -> bytes:
        """With its stop bit and the bytes that keep start codes out of it, after a start code."""
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        escaped = bytearray([header])
        for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return b"\0\0\0\1" + bytes(escaped)


def parameters(width: int, height: int) -> bytes:
    """Of the sequence and of pictures: main profile, fields allowed; sides are multiples of 16 and 32."""
    sequence = Bits().number(77, 8).number(0, 8).number(30, 8)
    sequence.golomb(0, FRAME_NUMBER_BITS - 4, 0, ORDER_BITS - 4, 1).number(0, 1)
    sequence.golomb(width // 16 - 1, height // 32 - 1)
    sequence.number(0, 1).number(0, 1).number(1, 1).number(0, 1).number(0, 1)
    pictures = Bits().golomb(0, 0).number(0, 2).golomb(0, 0, 0).number(0, 3).golomb(0, 0, 0).number(0b100, 3)
    return sequence.unit(0x67) + pictures.unit(0x68)


def field(picture: Picture, number: int, bottom: int, *, is_key: bool) -> bytes:
    """The slice of one field of a grey picture, which is the ``number``-th since the key frame."""
    luma = picture[bottom::2, :, 0]
    bits = Bits().golomb(0, 7, 0).number(number, FRAME_NUMBER_BITS).number(1, 1).number(bottom, 1)
    if is_key:
        bits.golomb(0)
    bits.number((2 * number + bottom) % (1 << ORDER_BITS), ORDER_BITS)
    bits.number(0, 2 if is_key else 1)  # how references are kept
    bits.golomb(0, 1)  # quality, no deblocking
    for top in range(0, luma.shape[0], 16):
        for left in range(0, luma.shape[1], 16):
            bits.golomb(25).align()  # I_PCM
            block = luma[top : top + 16, left : left + 16].tobytes() + bytes([128]) * 128
            bits.number(int.from_bytes(block, "big"), 8 * len(block))
    return bits.unit(0x65 if is_key else 0x21)


def write_fields(path: Path, pictures: Iterable[Picture], *, together: bool, group: int = 20) -> Path:
    """A film of 25 frames a second, two fields each: in one packet with one time, or in two with two."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.pix_fmt = "yuv420p"
        for packet in _packets(stream, list(pictures), together, group):
            container.mux(packet)
    return path


def _packets(stream: Any, pictures: list[Picture], together: bool, group: int) -> Iterator[av.Packet]:
    stream.height, stream.width = pictures[0].shape[:2]
    for number, picture in enumerate(pictures):
        is_first = number % group == 0
        fields = [
            field(picture, number % group, bottom, is_key=is_first and bottom == 0) for bottom in range(2)
        ]
        if is_first:
            fields[0] = parameters(stream.width, stream.height) + fields[0]
        for place, data in enumerate([b"".join(fields)] if together else fields):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 50)
            packet.pts = packet.dts = 2 * number + place
            packet.is_keyframe = is_first and place == 0
            yield packet
