"""Small ICC profiles of our own making: colour spaces by their primaries, inks by a table."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# Columns: red, green, blue in XYZ, adapted to D50 (Bradford), as such profiles hold them.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
_D50 = (0.9642, 1.0, 0.8249)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50),
        **tags,
    }
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    whole = struct.pack(">I", len(tags)) + table + body
    header = struct.pack(
        ">I4sI4s4s4s12x4s", 128 + len(whole), b"\0\0\0\0", 0x02400000, kind, space, connection, b"acsp"
    )
    return header.ljust(68, b"\0") + _fixed(*_D50) + bytes(48) + whole


def rgb_profile(primaries: NDArray[np.float64], gamma: float = 2.2) -> bytes:
    """A display with these primaries and this gamma."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags = {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    for name, column in zip((b"r", b"g", b"b"), primaries.T, strict=True):
        tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*column)
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags)


def grey_profile(gamma: float) -> bytes:
    """A grey display of this gamma."""
    return _profile(
        b"GRAY", b"XYZ ", b"mntr", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))}
    )


def cmyk_profile(lab: NDArray[np.uint8]) -> bytes:
    """Inks by the colours of their 16 combinations of none and all: (2, 2, 2, 2, 3) in C, M, Y, K; Lab."""
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += straight * 4 + lab.astype(np.uint8).tobytes() + straight * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", {b"A2B0": table})


def in_srgb(
    colour: tuple[int, int, int], primaries: NDArray[np.float64], gamma: float = 2.2
) -> NDArray[np.float64]:
    """What a colour of such a display is in sRGB, 0 to 255, by the standards' formulas."""
    linear = np.linalg.inv(SRGB) @ primaries @ (np.array(colour) / 255) ** gamma
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
