"""Which page of a TIFF is the picture: not the thumbnail before it, and not page 2 of a letter."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_PAGES = 256
"""Looked at; what comes after them is as those are."""
_MOST_TAGS = 4096
_TYPE, _OLD_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SUB = 254, 255, 256, 257, 262, 274, 330
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_READABLE = frozenset({0, 1, 2, 3, 5, 6, 8})
"""Photometric interpretations: grey, RGB, palette, CMYK, YCbCr, CIE L*a*b*; no masks, no sensor's data."""
_THUMBNAIL = 8
"""A page with so many times fewer pixels than another is its thumbnail, though it does not say so."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class TiffPage:
    """One directory of a TIFF: where it is, and what it says of its picture."""

    offset: int
    width: int
    height: int
    is_reduced: bool
    is_readable: bool

    @property
    def pixels(self) -> int:
        return self.width * self.height


class TiffPages:
    """The pages of a TIFF, also those that others hold as their sub-pages."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = ">" if data[:2] == b"MM" else "<"
        self._is_big = data[2:4] in (b"\0+", b"+\0")
        self._seen: set[int] = set()
        self.pages = list(self._chain(self._first()))

    @property
    def best(self) -> TiffPage | None:
        """The page to look at; None where there is none that makes sense."""
        pages = [page for page in self.pages if page.is_readable and page.pixels]
        pages = [page for page in pages if not page.is_reduced] or pages
        if not pages:
            return None
        largest = max(pages, key=lambda page: page.pixels)
        return largest if largest.pixels >= _THUMBNAIL * pages[0].pixels else pages[0]

    def smaller(self) -> list[TiffPage]:
        """What says that it is a smaller version of a page, the largest first."""
        reduced = [page for page in self.pages if page.is_reduced and page.is_readable and page.pixels]
        return sorted(reduced, key=lambda page: -page.pixels)

    def beginning_with(self, page: TiffPage) -> bytes:
        """The file with this page as its first."""
        if page.offset == self._first():
            return self._data
        place, kind = (8, "Q") if self._is_big else (4, "I")
        data = bytearray(self._data)
        struct.pack_into(self._order + kind, data, place, page.offset)
        return bytes(data)

    def _first(self) -> int:
        return self._number("Q", 8) if self._is_big else self._number("I", 4)

    def _number(self, kind: str, at: int) -> int:
        """One number; 0 outside the file."""
        size = struct.calcsize("<" + kind)
        if not 0 <= at <= len(self._data) - size:
            return 0
        (value,) = struct.unpack_from(self._order + kind, self._data, at)
        return int(value)

    def _chain(self, offset: int) -> Iterator[TiffPage]:
        while offset and offset not in self._seen and len(self._seen) < _MOST_PAGES:
            self._seen.add(offset)
            tags, offset_of_next = self._tags(offset)
            yield _page(offset, tags)
            for below in tags.get(_SUB, ()):
                yield from self._chain(below)
            offset = self._number("Q" if self._is_big else "I", offset_of_next)

    def _tags(self, offset: int) -> tuple[dict[int, list[int]], int]:
        """The whole numbers of a directory by their tags, and where the offset of the next one stands."""
        count, at, size = self._number("H", offset), offset + 2, 12
        if self._is_big:
            count, at, size = self._number("Q", offset), offset + 8, 20
        count = min(count, _MOST_TAGS)
        tags: dict[int, list[int]] = {}
        for entry in range(at, at + size * count, size):
            tag, kind = self._number("H", entry), _INTEGERS.get(self._number("H", entry + 2))
            if kind is not None and tag in (_TYPE, _OLD_TYPE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB):
                tags[tag] = self._values(kind, entry)
        return tags, at + size * count

    def _values(self, kind: str, entry: int) -> list[int]:
        word, room = ("Q", 8) if self._is_big else ("I", 4)
        number = min(self._number(word, entry + 4), _MOST_PAGES)
        size = struct.calcsize("<" + kind)
        at = entry + 4 + room
        if number * size > room:
            at = self._number(word, at)
        return [self._number(kind, at + i * size) for i in range(number)]


def _page(offset: int, tags: dict[int, list[int]]) -> TiffPage:
    def first(tag: int, otherwise: int = 0) -> int:
        return next(iter(tags.get(tag, ())), otherwise)

    kind = first(_TYPE)
    return TiffPage(
        offset,
        first(_WIDTH),
        first(_HEIGHT),
        is_reduced=bool(kind & _REDUCED) or first(_OLD_TYPE) == _OLD_REDUCED,
        is_readable=not kind & _MASK and first(_PHOTOMETRIC, 1) in _READABLE,
    )
