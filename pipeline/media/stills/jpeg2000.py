"""What a JPEG 2000 says of its tiles and its sizes (ITU-T T.800, annex A)."""

from __future__ import annotations

import struct

_BEGINNING = b"\xff\x4f\xff\x51"
_CODING, _FIRST_TILE = 0xFF52, 0xFF90


def tile_and_levels(data: bytes) -> tuple[tuple[int, int], int]:
    """Width and height of a tile, and how often the picture can be halved while it is decoded."""
    begin = data.find(_BEGINNING)
    if begin < 0 or begin + 42 > len(data):
        return (1 << 31, 1 << 31), 0
    length, tile_width, tile_height = struct.unpack_from(">H18xII", data, begin + 4)
    at = begin + 4 + length
    while at + 10 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _CODING:
            return (tile_width, tile_height), data[at + 9]
        if marker >= _FIRST_TILE and marker < 0xFFA0:
            break
        at += 2 + length
    return (tile_width, tile_height), 0
