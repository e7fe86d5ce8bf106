"""How a still can be decoded: whole, or smaller where its format lets a decoder skip detail."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pipeline.media.stills.dc_scans import an_eighth
from pipeline.media.stills.decoder_memory import dc_memory, decoder_memory, jpeg2000_memory, jpeg_memory
from pipeline.media.stills.jpeg2000 import tile_and_levels
from pipeline.media.stills.jpeg_markers import JpegMarkers
from pipeline.media.stills.tiff_pages import TiffPages
from pipeline.media.stills.tiff_planes import DeepPlanes

if TYPE_CHECKING:
    from PIL import Image, Jpeg2KImagePlugin

_SMALLEST_VERSION = 256
"""Pixels of the shorter side: a smaller version of a page with less is a thumbnail."""


class Way(NamedTuple):
    """One way to decode a picture: what it takes, what comes out."""

    memory: int
    """Bytes at most, the decoded picture included."""
    size: tuple[int, int]
    load: Callable[[], Image.Image]


def ways(image: Image.Image, data: bytes, scale: int) -> Iterator[Way]:
    """Ways to decode a picture whose header was read from ``data``: one that gives at least 1/scale of its
    width, a power of two, where its format allows; then those that give less. Only one may be taken.
    """
    kinds = {"JPEG": _jpeg, "MPO": _jpeg, "JPEG2000": _jpeg2000, "TIFF": _tiff}
    return kinds.get(image.format or "", _other)(image, data, scale)


def divided(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """A size divided, rounded up."""
    return -(-size[0] // divisor), -(-size[1] // divisor)


def _other(image: Image.Image, data: bytes, scale: int) -> Iterator[Way]:
    yield Way(decoder_memory(image, data), image.size, partial(_loaded, image))


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _tiff(image: Image.Image, data: bytes, scale: int) -> Iterator[Way]:
    """As it is, or by a smaller version that the file has of it, as maps and slides do."""
    from PIL import Image

    planes = DeepPlanes.of(image, data)
    if planes is None:
        yield from _other(image, data, scale)
    else:
        yield Way(planes.memory, image.size, planes.load)
    pages = TiffPages(data)
    for page in pages.smaller():
        if min(page.width, page.height) >= _SMALLEST_VERSION:
            smaller = Image.open(io.BytesIO(pages.beginning_with(page)), formats=("TIFF",))
            yield from _other(smaller, data, scale)


def _jpeg(image: Image.Image, data: bytes, scale: int) -> Iterator[Way]:
    markers = JpegMarkers(data)
    for divisor in (1, 2, 4, 8):
        if divisor < min(scale, 8):
            continue
        if divisor == 8 and markers.frame.is_huffman_progressive:
            memory, load = dc_memory(markers, data), partial(_from_dc_scans, image, data)
        else:
            memory, load = jpeg_memory(markers, image.mode, divisor), partial(_drafted, image, divisor)
        yield Way(memory, divided(image.size, divisor), load)


def _from_dc_scans(image: Image.Image, data: bytes) -> Image.Image:
    eighth = an_eighth(data)
    eighth.info = image.info
    return eighth


def _drafted(image: Image.Image, divisor: int) -> Image.Image:
    if divisor > 1:
        image.draft(None, (max(1, image.width // divisor), max(1, image.height // divisor)))
    return _loaded(image)


def _jpeg2000(image: Image.Image, data: bytes, scale: int) -> Iterator[Way]:
    tile, levels = tile_and_levels(data)
    # Pillow rounds the size of what is reduced, OpenJPEG rounds it up; where these differ, decoding fails.
    possible = [
        halvings
        for halvings in range(levels + 1)
        if all((side + (1 << halvings) // 2) >> halvings == -(-side >> halvings) for side in image.size)
    ]
    best = max(halvings for halvings in possible if 1 << halvings <= scale)
    for halvings in possible:
        if halvings >= best:
            size = divided(image.size, 1 << halvings)
            memory = jpeg2000_memory(size, image.mode, divided(tile, 1 << halvings), len(image.getbands()))
            yield Way(memory, size, partial(_reduced, image, halvings))


def _reduced(image: Image.Image, halvings: int) -> Image.Image:
    plugin: Jpeg2KImagePlugin.Jpeg2KImageFile = image  # type: ignore[assignment]
    plugin.reduce = halvings
    return _loaded(image)
