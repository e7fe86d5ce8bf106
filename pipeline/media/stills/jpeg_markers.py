"""What a JPEG says before and between its scans (ITU-T T.81), without decoding any of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_END, _SCAN, _END_OF_IMAGE = 0xD9, 0xDA, 0xD9
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""In a scan FF is followed by 00, or is a restart marker; any other marker ends it."""


class BadJpeg(ValueError):
    """Its markers or its DC scans make no sense."""


@dataclass(frozen=True, slots=True)
class Component:
    """A colour channel: it has ``across`` x ``down`` blocks in each unit of the frame."""

    name: int
    across: int
    down: int
    quantisation: int


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """What a start-of-frame marker says; sizes are pixels."""

    marker: int
    bits: int
    width: int
    height: int
    components: tuple[Component, ...]

    @property
    def is_huffman_progressive(self) -> bool:
        """Whether its DC coefficients come first, in scans of their own, by codes that DcScans knows."""
        return self.marker == _PROGRESSIVE and self.bits == 8

    @property
    def across(self) -> int:
        """The largest number of blocks of a component in a unit, across."""
        return max(component.across for component in self.components)

    @property
    def down(self) -> int:
        """The largest number of blocks of a component in a unit, down."""
        return max(component.down for component in self.components)

    @property
    def units(self) -> tuple[int, int]:
        """Units across and down; the last ones may hang over."""
        return -(-self.width // (8 * self.across)), -(-self.height // (8 * self.down))

    @property
    def blocks(self) -> int:
        """Blocks of all components."""
        across, down = self.units
        return across * down * sum(component.across * component.down for component in self.components)


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan: its components with the DC table of each, what of their coefficients it has, its data."""

    components: tuple[tuple[int, int], ...]
    first: int
    last: int
    high: int
    """The bit above those that it refines; 0 where it is the first to tell of its coefficients."""
    low: int
    begin: int
    end: int


@dataclass
class Tables:
    """What is in force when a scan begins; by table number."""

    dc_quantisation: dict[int, int] = field(default_factory=dict)
    dc_codes: dict[int, bytes] = field(default_factory=dict)
    """16 counts of codes by their length, then their symbols."""
    restart_interval: int = 0
    adobe_transform: int | None = None
    is_jfif: bool = False


class JpegMarkers:
    """The frame, and then scan after scan with the tables in force."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.tables = Tables()
        self._segments = self._walk()
        self.frame = self._first_frame()
        self.first_scan = self._next_scan()

    @property
    def is_buffered(self) -> bool:
        """Whether a decoder has to hold the coefficients of the whole picture before it can begin."""
        first = self.first_scan
        in_parts = first is not None and len(first.components) < len(self.frame.components)
        return self.frame.marker not in (_BASELINE, _EXTENDED) or in_parts

    def scans(self) -> Iterator[Scan]:
        """Each scan, once. Raises BadJpeg where the file ends without saying so."""
        scan = self.first_scan
        while scan is not None:
            yield scan
            scan = self._next_scan()

    def _first_frame(self) -> JpegFrame:
        for marker, begin, end in self._segments:
            if marker in _FRAMES:
                return _frame(marker, self._data[begin:end])
            self._take(marker, self._data[begin:end])
        raise BadJpeg("it has no frame")

    def _next_scan(self) -> Scan | None:
        for marker, begin, end in self._segments:
            if marker == _SCAN:
                return _scan(self._data[begin:end], end, self._end_of_scan(end))
            self._take(marker, self._data[begin:end])
        return None

    def _end_of_scan(self, begin: int) -> int:
        found = _AFTER_SCAN.search(self._data, begin)
        return len(self._data) if found is None else found.start()

    def _walk(self) -> Iterator[tuple[int, int, int]]:
        """Markers with what belongs to them: (marker, begin, end)."""
        data, at = self._data, 2
        while True:
            at = data.find(b"\xff", at)
            while at >= 0 and data[at + 1 : at + 2] == b"\xff":
                at += 1
            if at < 0 or at + 1 >= len(data):
                raise BadJpeg("it is cut off")
            marker = data[at + 1]
            at += 2
            if marker == _END_OF_IMAGE:
                return
            if marker in _ALONE or marker == 0:
                continue
            if at + 2 > len(data):
                raise BadJpeg("it is cut off")
            end = at + max(2, int.from_bytes(data[at : at + 2]))
            yield marker, at + 2, end
            at = self._end_of_scan(end) if marker == _SCAN else end

    def _take(self, marker: int, body: bytes) -> None:
        tables = self.tables
        if marker == 0xDB:
            tables.dc_quantisation.update(_quantisation(body))
        elif marker == 0xC4:
            tables.dc_codes.update(_codes(body))
        elif marker == 0xDD and len(body) >= 2:
            tables.restart_interval = int.from_bytes(body[:2])
        elif marker == 0xE0 and body[:5] == b"JFIF\0":
            tables.is_jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            tables.adobe_transform = body[11]


def _frame(marker: int, body: bytes) -> JpegFrame:
    try:
        bits, height, width, count = struct.unpack_from(">BHHB", body)
        components = tuple(
            Component(name, sampling >> 4, sampling & 15, table)
            for name, sampling, table in struct.iter_unpack(">BBB", body[6 : 6 + 3 * count])
        )
    except struct.error as error:
        raise BadJpeg("its frame is cut off") from error
    fits = len(components) == count and all(1 <= c.across <= 4 and 1 <= c.down <= 4 for c in components)
    if not (fits and count and width and height):
        raise BadJpeg("its frame makes no sense")
    return JpegFrame(marker, bits, width, height, components)


def _scan(body: bytes, begin: int, end: int) -> Scan:
    count = body[0] if body else 0
    if not 1 <= count <= 4 or len(body) < 4 + 2 * count:
        raise BadJpeg("a scan makes no sense")
    components = tuple((body[1 + 2 * i], body[2 + 2 * i] >> 4) for i in range(count))
    first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
    return Scan(components, first, last, approximation >> 4, approximation & 15, begin, end)


def _quantisation(body: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(body):
        size = 2 if body[at] >> 4 else 1
        yield body[at] & 15, int.from_bytes(body[at + 1 : at + 1 + size])
        at += 1 + 64 * size


def _codes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 17 <= len(body):
        length = 17 + sum(body[at + 1 : at + 17])
        if body[at] >> 4 == 0:
            yield body[at] & 15, body[at + 1 : at + length]
        at += length
