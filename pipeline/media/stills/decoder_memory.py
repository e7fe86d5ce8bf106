"""What decoding a picture takes, in bytes, from what its header says.

The figures were measured with the pinned Pillow and pi-heif, and rounded up; the tests measure again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.media.stills.dc_scans import MEMORY_OF_A_BLOCK
from pipeline.media.stills.jpeg_markers import JpegMarkers

if TYPE_CHECKING:
    from PIL import Image

_OF_A_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""What Pillow holds; of all other modes 4."""


def decoder_memory(image: Image.Image, data: bytes) -> int:
    """Decoding anything but a JPEG or a JPEG 2000, the picture included."""
    pixels = image.width * image.height
    if image.format == "WEBP":
        return 19 * pixels  # two canvases, the decoder's own picture, and two copies
    if image.format == "AVIF":
        return 16 * pixels  # three planes of up to 16 bits, alpha, and two copies
    if image.format == "HEIF":
        is_plain = (
            image.info.get("chroma") == 420 and image.info.get("bit_depth") == 8 and image.mode == "RGB"
        )
        return (9 if is_plain else 14) * pixels
    if image.format == "TIFF":
        return _tiff(image) + len(data)
    if getattr(image, "is_animated", False):
        return 3 * _held(image.size, image.mode)
    return _held(image.size, image.mode) + 16 * image.width + len(data)


def jpeg_memory(markers: JpegMarkers, mode: str, divisor: int) -> int:
    """Decoding by libjpeg at 1/1, 1/2, 1/4 or 1/8, the picture included."""
    frame = markers.frame
    size = (-(-frame.width // divisor), -(-frame.height // divisor))
    rows = 64 * frame.width * len(frame.components)
    coefficients = 128 * frame.blocks if markers.is_buffered else 0
    return _held(size, mode) + rows + coefficients


def dc_memory(markers: JpegMarkers, data: bytes) -> int:
    """Making an eighth of a JPEG of its DC coefficients."""
    return MEMORY_OF_A_BLOCK * markers.frame.blocks + (16 << 20) + 2 * len(data)


def jpeg2000_memory(size: tuple[int, int], mode: str, tile: tuple[int, int], bands: int) -> int:
    """Decoding by OpenJPEG: 4 bytes for each sample of a tile, then a tile of bytes, beside the picture."""
    in_tile = min(size[0], tile[0]) * min(size[1], tile[1])
    return _held(size, mode) + 6 * bands * in_tile


def _held(size: tuple[int, int], mode: str) -> int:
    """A picture as Pillow holds it."""
    return size[0] * size[1] * _OF_A_PIXEL.get(mode, 4)


def _tiff(image: Image.Image) -> int:
    tags: Any = getattr(image, "tag_v2", {})
    compression = _number(tags, 259) or 1
    held = _held(image.size, image.mode)
    if _number(tags, 274) > 1:  # Pillow turns it, and has both for a moment
        held *= 2
    if compression == 1:
        return held
    width = _number(tags, 322) or image.width
    rows = _number(tags, 323) or min(_number(tags, 278) or image.height, image.height)
    samples = _number(tags, 277) or 1
    of_a_pixel = max(4, samples * -(-_number(tags, 258) // 8))
    if compression in (6, 7):  # JPEG, perhaps progressive
        of_a_pixel += 2 * samples + 4
    return held + width * rows * of_a_pixel


def _number(tags: Any, tag: int) -> int:
    """The largest number of a tag; 0 where it has none."""
    values = tags.get(tag, 0)
    numbers = [
        value for value in (values if isinstance(values, tuple) else (values,)) if isinstance(value, int)
    ]
    return max(numbers, default=0)
