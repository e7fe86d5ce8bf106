"""HEIC files as phones and cameras write them: HEVC by PyAV, the boxes around it by hand.

What a test wants to differ (turns, grids, alpha, depth, profiles) are boxes, so no encoder is in the way.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of ISO 14496-12."""
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def nal_units(stream: bytes) -> list[bytes]:
    """The NAL units of an Annex B stream."""
    units = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [unit.rstrip(b"\0") for unit in units if unit]


def hevc(image: NDArray[np.uint8], pixel_format: str) -> tuple[bytes, bytes]:
    """An RGB or grey image as one HEVC picture: its hvcC box, and its data."""
    import av
    from av.video.reformatter import ColorRange

    kind = "gray" if image.ndim == 2 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
    frame = frame.reformat(format=pixel_format, dst_color_range=ColorRange.JPEG)
    codec = av.CodecContext.create("libx265", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, pixel_format
    codec.framerate = 1
    codec.options = {
        "preset": "ultrafast",
        "x265-params": "log-level=none:crf=8:range=full:repeat-headers=1:info=0",
    }
    stream = b"".join(bytes(packet) for one in (frame, None) for packet in codec.encode(one))
    units = nal_units(stream)
    sets = {number: [unit for unit in units if unit[0] >> 1 & 63 == number] for number in (32, 33, 34)}
    slices = [unit for unit in units if unit[0] >> 1 & 63 < 32]
    profile = sets[33][0].replace(b"\0\0\3", b"\0\0")[3:15]
    depth = 2 if "10" in pixel_format else 0
    chroma = 0 if pixel_format.startswith("gray") else 1 if "420" in pixel_format else 3
    header = struct.pack(
        ">B12sHBBBBHBB", 1, profile, 0xF000, 0xFC, 0xFC | chroma, 0xF8 | depth, 0xF8 | depth, 0, 0x0F, 3
    )
    arrays = b"".join(
        struct.pack(">BH", 0x80 | number, len(ones))
        + b"".join(struct.pack(">H", len(one)) + one for one in ones)
        for number, ones in sets.items()
    )
    return box(b"hvcC", header, arrays), b"".join(struct.pack(">I", len(one)) + one for one in slices)


@dataclass
class Item:
    """One item of a HEIF file; ``properties`` are (box, whether readers must know it)."""

    kind: bytes
    data: bytes
    properties: list[tuple[bytes, bool]] = field(default_factory=list)
    hidden: bool = False
    references: list[tuple[bytes, list[int]]] = field(default_factory=list)


def size_box(width: int, height: int) -> tuple[bytes, bool]:
    return full_box(b"ispe", struct.pack(">II", width, height)), False


def turned(quarters: int) -> tuple[bytes, bool]:
    """Turn by so many quarters against the clock."""
    return box(b"irot", bytes([quarters])), True


def mirrored(axis: int) -> tuple[bytes, bool]:
    """0: upside down; 1: left to right."""
    return box(b"imir", bytes([axis])), True


def profile(icc: bytes) -> tuple[bytes, bool]:
    return box(b"colr", b"prof", icc), False


def picture(
    image: NDArray[np.uint8], *properties: tuple[bytes, bool], pixel_format: str = "yuv420p", **more: object
) -> Item:
    """A picture item, coded; ``properties`` come after its own."""
    config, data = hevc(image, pixel_format)
    nclx = box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 6, 0x80))
    own = [(config, True), size_box(image.shape[1], image.shape[0]), (nclx, False)]
    return Item(b"hvc1", data, [*own, *properties], **more)  # type: ignore[arg-type]


def auxiliary(image: NDArray[np.uint8], of: int, urn: bytes, pixel_format: str = "gray") -> Item:
    """Alpha or depth of item number ``of``."""
    config, data = hevc(image, pixel_format)
    about = full_box(b"auxC", urn + b"\0")
    own = [(config, True), size_box(image.shape[1], image.shape[0]), (about, True)]
    return Item(b"hvc1", data, own, hidden=True, references=[(b"auxl", [of])])


ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
DEPTH = b"urn:mpeg:hevc:2015:auxid:2"


def grid(
    rows: int, columns: int, width: int, height: int, tiles: list[int], *properties: tuple[bytes, bool]
) -> Item:
    """A picture put together of tiles, which are items."""
    data = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    return Item(b"grid", data, [size_box(width, height), *properties], references=[(b"dimg", tiles)])


def exif(tiff: bytes, of: int) -> Item:
    return Item(b"Exif", struct.pack(">I", 0) + tiff, hidden=True, references=[(b"cdsc", [of])])


def heif(items: list[Item], *, primary: int = 1, brand: bytes = b"heic") -> bytes:
    """A file of these items, numbered from 1."""
    entries = b"".join(
        full_box(b"infe", struct.pack(">HH", number, 0) + item.kind + b"\0", version=2, flags=item.hidden)
        for number, item in enumerate(items, 1)
    )
    known = list(dict.fromkeys(one for item in items for one in item.properties))
    associations = b"".join(
        struct.pack(">HB", number, len(item.properties))
        + bytes(known.index(one) + 1 | one[1] << 7 for one in item.properties)
        for number, item in enumerate(items, 1)
    )
    references = b"".join(
        box(kind, struct.pack(">HH", number, len(to)), *(struct.pack(">H", one) for one in to))
        for number, item in enumerate(items, 1)
        for kind, to in item.references
    )
    ftyp = box(b"ftyp", brand, b"\0\0\0\0", b"mif1", b"heic")

    def meta(first: int) -> bytes:
        places, at = b"", first
        for number, item in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(item.data))
            at += len(item.data)
        return full_box(
            b"meta",
            full_box(b"hdlr", struct.pack(">I4s12xx", 0, b"pict")),
            full_box(b"pitm", struct.pack(">H", primary)),
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)), places),
            full_box(b"iinf", struct.pack(">H", len(items)), entries),
            *([full_box(b"iref", references)] if references else []),
            box(
                b"iprp",
                box(b"ipco", *(one for one, _ in known)),
                full_box(b"ipma", struct.pack(">I", len(items)), associations),
            ),
        )

    before = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(before) + box(b"mdat", *(item.data for item in items))
