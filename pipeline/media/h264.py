"""What packets of H.264 (ITU-T H.264) say: where decoding can begin, and which of them are second fields."""

from __future__ import annotations

from collections.abc import Iterator

_SLICE, _IDR, _SEI, _PARAMETERS = 1, 5, 6, 7
_RECOVERY_POINT = 6
_HEAD = 64
"""So many bytes of a unit hold all that is looked at, but in a set of parameters with scaling lists."""

_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose parameters begin with the format of the colours (7.3.2.1.1)."""


class H264Packets:
    """Takes the packets of a stream in the order of the file."""

    def __init__(self, extradata: bytes) -> None:
        """``extradata`` as the container has it: an AVC configuration, or units after start codes."""
        self._length_size = (extradata[4] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > 4 else 0
        self._parameters: _Parameters | None = None
        self._field: tuple[int, int] | None = None
        """The number of the frame of the packet before, and which field of it that was, where it had one."""
        if self._length_size:
            size = int.from_bytes(extradata[6:8], "big")
            self._learn(extradata[8 : 8 + size])
        else:
            for unit in _after_start_codes(extradata):
                self._learn(unit)

    def is_key(self, packet: bytes) -> bool:
        """Whether the pictures from this one on need none before it.

        FFmpeg takes the beginning of a gradual refresh for a key frame, too. Here the first slice is of an
        IDR picture, or a recovery point (D.2.8) says that pictures are right from this one on.
        """
        recovers = False
        for unit in self._units(packet):
            kind = unit[0] & 0x1F
            if kind == _SEI:
                recovers = recovers or _is_recovered_at_once(unit)
            elif _SLICE <= kind <= _IDR:
                return kind == _IDR or recovers
        return False

    def is_second_field(self, packet: bytes) -> bool:
        """Whether a packet is the other field of the frame that the packet before began (7.4.1.2.4)."""
        if self._parameters is not None and self._parameters.has_frames_alone:
            return False
        before, self._field = self._field, None
        for unit in self._units(packet):
            kind = unit[0] & 0x1F
            if _SLICE <= kind <= _IDR and self._parameters is not None:
                field = self._parameters.field_of(unit)
                if field is not None and before == (field[0], 1 - field[1]):
                    return True
                self._field = field
                return False
        return False

    def _units(self, packet: bytes) -> Iterator[bytes]:
        """The beginnings of the units up to the first slice's; learns the parameters among them."""
        for unit in self._with_lengths(packet) if self._length_size else _after_start_codes(packet):
            if unit:
                self._learn(unit)
                yield unit[:_HEAD]
                if _SLICE <= unit[0] & 0x1F <= _IDR:
                    return

    def _with_lengths(self, packet: bytes) -> Iterator[bytes]:
        at = 0
        while at + self._length_size < len(packet):
            size = int.from_bytes(packet[at : at + self._length_size], "big")
            at += self._length_size
            yield packet[at : at + min(size, 4 * _HEAD)]
            at += size

    def _learn(self, unit: bytes) -> None:
        if unit[:1] and unit[0] & 0x1F == _PARAMETERS:
            try:
                self._parameters = _Parameters(unit)
            except IndexError:  # cut off
                self._parameters = None


def _after_start_codes(data: bytes) -> Iterator[bytes]:
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        yield data[at + 3 : at + 3 + 4 * _HEAD]
        at = data.find(b"\0\0\1", at + 3)


def _is_recovered_at_once(unit: bytes) -> bool:
    """Whether one of the unit's messages is a recovery point after no further frame."""
    at = 1
    while at + 2 < len(unit):
        kind, size = unit[at], unit[at + 1]
        if kind == _RECOVERY_POINT:
            return bool(unit[at + 2] & 0x80)  # Exp-Golomb: a first bit of 1 is the number 0
        if kind == 0xFF or size == 0xFF:
            return False
        at += 2 + size
    return False


class _Parameters:
    """A sequence parameter set, as far as the header of a slice is read by it."""

    def __init__(self, unit: bytes) -> None:
        """Raises IndexError where it is cut off."""
        bits = _Bits(unit)
        profile = bits.number(8)
        bits.number(16)  # constraints, level
        bits.golomb()  # its number
        self._has_planes = False
        if profile in _WITH_CHROMA:
            self._skip_chroma(bits)
        self._frame_number_bits = bits.golomb() + 4
        self._skip_order(bits)
        bits.golomb()  # reference frames
        bits.number(1)
        bits.golomb()  # width
        bits.golomb()  # height
        self.has_frames_alone = bool(bits.number(1))
        """Whether no picture is sent field by field."""

    def field_of(self, slice_unit: bytes) -> tuple[int, int] | None:
        """The number of a slice's frame, and 1 for the bottom field, 0 for the top one; None for a frame.

        None, too, where the slice is damaged.
        """
        bits = _Bits(slice_unit)
        try:
            for _ in range(3):  # first macroblock, kind, picture parameters
                bits.golomb()
            if self._has_planes:
                bits.number(2)
            number = bits.number(self._frame_number_bits)
            return (number, bits.number(1)) if bits.number(1) else None
        except IndexError:
            return None

    def _skip_chroma(self, bits: _Bits) -> None:
        chroma = bits.golomb()
        if chroma == 3:
            self._has_planes = bool(bits.number(1))
        bits.golomb()  # depth of luma
        bits.golomb()  # and of chroma
        bits.number(1)
        if bits.number(1):
            for place in range(12 if chroma == 3 else 8):
                if bits.number(1):
                    _skip_scaling_list(bits, 16 if place < 6 else 64)

    def _skip_order(self, bits: _Bits) -> None:
        kind = bits.golomb()
        if kind == 0:
            bits.golomb()
        elif kind == 1:
            bits.number(1)
            bits.golomb()
            bits.golomb()
            for _ in range(min(bits.golomb(), 255)):
                bits.golomb()


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = scale = 8
    for _ in range(size):
        if scale:
            code = bits.golomb()
            scale = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        last = scale or last


class _Bits:
    """Reads a unit from its second byte on, without the bytes that keep start codes out of it (7.4.1)."""

    def __init__(self, unit: bytes) -> None:
        self._data = unit[1:].replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def number(self, count: int) -> int:
        """So many bits. Raises IndexError where there are no more."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code (9.1). Raises IndexError where it does not end."""
        zeros = 0
        while not self.number(1):
            zeros += 1
        return (1 << zeros) - 1 + self.number(zeros)
