"""PNGs without what a program, not a picture, keeps in them: workflows, histories, whole documents.

Pillow refuses a PNG with a text or a profile above a megabyte, since it might be made to fill the memory.
Text is not needed here at all, and profiles are unpacked up to a limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_PROFILE = 16 << 20
"""Bytes; printers' profiles have ten million. A larger one is left out."""
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_XMP = b"XML:com.adobe.xmp\0\0"
_LARGEST_XMP = 1 << 18
"""XMP may say which way is up. Cameras' has some thousand bytes."""


def without_texts(data: bytes) -> tuple[bytes, bytes | None]:
    """A PNG without its texts and its profile; and the profile, where it has one that can be unpacked.

    The bytes are the same where there is nothing to leave out.
    """
    kept, profile, at = [], None, 0
    for kind, begin, end in _chunks(data):
        body = begin + 8
        if kind == b"iCCP":
            profile = profile or _profile(data[body : end - 4])
        elif kind not in _TEXTS or _is_xmp(data, kind, body, end):
            continue
        kept.append(data[at:begin])
        at = end
    if not kept:
        return data, None
    return b"".join([*kept, data[at:]]), profile


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin, end) of each chunk that is there as a whole."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if end > len(data):
            return
        yield data[at + 4 : at + 8], at, end
        at = end


def _is_xmp(data: bytes, kind: bytes, body: int, end: int) -> bool:
    return kind == b"iTXt" and data.startswith(_XMP, body) and end - body <= _LARGEST_XMP


def _profile(body: bytes) -> bytes | None:
    packed = body[body.find(b"\0") + 2 :]
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed, LARGEST_PROFILE)
    except zlib.error:
        return None
    return profile if unpacker.eof else None
