"""Pictures: any still to upright 8-bit sRGB, and RGB to small JPEGs."""

from __future__ import annotations

import functools
import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import BadInput
from pipeline.media.stills.colours import Profile, flat, span_of
from pipeline.media.stills.memory import Budget
from pipeline.media.stills.png_chunks import SIGNATURE, without_texts
from pipeline.media.stills.tiff_pages import TiffPages
from pipeline.media.stills.ways import Way, divided, ways

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

THUMBNAIL_WIDTH = 320  # pixels
THUMBNAIL_QUALITY = 80  # of JPEG

SHORTER_SIDE = 512  # pixels; a picture is never made smaller, twice what the captioner looks at

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
"""Not all that Pillow knows: it would run Ghostscript on a PostScript file that calls itself a JPEG."""

_HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_STRIP = 1 << 20
"""Pixels that are brought to 8-bit sRGB at a time."""
_OF_STRIP = 40
"""Bytes that a pixel takes meanwhile, at most."""

BUDGET = Budget()
"""One for the process: what its threads decode at the same time."""


class NotAPicture(BadInput):
    """A file that is no picture at all, or of a kind that cannot be read."""


class TooManyPixels(BadInput):
    """A picture so large that decoding it might exhaust the memory."""

    def __init__(self, name: str, memory: int) -> None:
        super().__init__(
            f"{name}: the picture has too many pixels: decoding it would take {memory / 2**30:.1f} GiB of"
            f" memory, the limit is {BUDGET.limit / 2**30:.1f} GiB; make it smaller"
        )


class Still:
    """A still whose header has been read.

    ``memory`` is how many bytes decoding it takes at most, beside those of the file: whoever decodes has room
    for as many in ``BUDGET`` meanwhile.
    """

    def __init__(self, data: bytes, name: str, way: Way, factor: int, profile: bytes | None) -> None:
        self.memory = way.memory + _memory_of_pixels(way.size, factor)
        self._data = data
        self._name = name
        self._way = way
        self._factor = factor
        self._profile = Profile(profile)

    def decode(self) -> NDArray[np.uint8]:
        """The picture as `decode_still` gives it; once. Raises BadInput where it is damaged."""
        with _reasons(self._data, self._name):
            image = self._way.load()
            return _pixels(image, self._factor, self._profile, _orientation(image))


class Opened(NamedTuple):
    """The picture of a file, of which only the header has been read, and its colour profile."""

    image: Image.Image
    profile: bytes | None


def still_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height as the file's header says, without decoding it. Raises NotAPicture, BadInput."""
    with _reasons(data, name):
        return _opened(data).image.size


def open_still(data: bytes, name: str, *, whole: bool = False) -> Still:
    """Read a still's header and decide how to decode it: at the wanted size, or smaller where memory says so.

    Raises:
        BadInput: the file is empty, no picture, or so large that decoding it might exhaust the memory.
    """
    if not data:
        raise BadInput(f"{name}: the file is empty")
    least = None
    with _reasons(data, name):
        picture = _opened(data)
        for way, factor in _ways(picture.image, data, whole):
            still = Still(data, name, way, factor, None if whole else picture.profile)
            if still.memory <= BUDGET.limit:
                return still
            least = min(still.memory, least or still.memory)
    raise TooManyPixels(name, least or 0)


def decode_still(data: bytes, name: str, *, whole: bool = False) -> NDArray[np.uint8]:
    """The picture in a file's bytes: (height, width, 3), sRGB, turned as its EXIF says.

    Transparent pictures are laid on white, more than 8 bits are scaled down, of several pictures in a file
    the one that viewers show is taken, of an animation its first. One with a shorter side of 1024 pixels or
    more comes at a half, a quarter, an eighth and so on. Wanted `whole`, it comes with every pixel, unless it
    is too large for that, and with its colours as they are stored: so earlier captioners have seen it.

    Waits while others decode as much as ``DECODING_MEMORY`` allows.

    Raises:
        BadInput: the file is empty, no picture, cut short, or so large that it would exhaust memory.
    """
    still = open_still(data, name, whole=whole)
    with BUDGET.room(still.memory):
        return still.decode()


@contextmanager
def _reasons(data: bytes, name: str) -> Iterator[None]:
    """Whatever Pillow raises becomes a reason for people."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except BadInput:
        raise
    except UnidentifiedImageError as error:
        if data[4:12] in _HEIF_BRANDS:
            what = "the HEIC picture is damaged or of a kind that cannot be read; convert it to JPEG"
            raise NotAPicture(f"{name}: {what}") from error
        raise NotAPicture(f"{name}: not a picture, or of a kind that cannot be read") from error
    except Exception as error:  # what damaged files raise in Pillow's plug-ins has no common class
        raise BadInput(f"{name}: the picture is damaged: {_what(error)}") from error


@functools.cache
def _readable_formats() -> tuple[str, ...]:
    from PIL import Image

    # Remarks about odd but readable pictures would otherwise reach stderr, once for each kind.
    warnings.filterwarnings("ignore", module=r"PIL(\..*)?$")
    Image.MAX_IMAGE_PIXELS = None  # what counts here is memory
    Image.init()
    try:
        from pi_heif import register_heif_opener
    except ImportError:  # an environment from before it was needed
        pass
    else:
        register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _opened(data: bytes) -> Opened:
    """The picture that viewers show of a file."""
    from PIL import Image

    profile = None
    if data.startswith(SIGNATURE):
        data, profile = without_texts(data)
    elif data[:4] in _TIFF:
        pages = TiffPages(data)
        data = pages.beginning_with(pages.best) if pages.best else data
    image = Image.open(io.BytesIO(data), formats=_readable_formats())
    return Opened(image, profile or image.info.get("icc_profile"))


def _scale(size: tuple[int, int]) -> int:
    """1, or the power of two by which a picture of this size may be divided."""
    ratio = min(size) / SHORTER_SIDE
    if ratio < 2:
        return 1
    fits = min(side // math.ceil(side / ratio) for side in size)
    return 1 << max(fits, 1).bit_length() - 1


def _ways(image: Image.Image, data: bytes, whole: bool) -> Iterator[tuple[Way, int]]:
    """Ways to decode a picture, each with what its sides are to be divided by afterwards."""
    if whole:
        yield next(ways(image, data, 1)), 1
    for way in ways(image, data, _scale(image.size)):
        yield way, _scale(way.size)


def _orientation(image: Image.Image) -> int:
    """Which of the eight ways it lies, as EXIF counts them."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # EXIF that cannot be read says nothing about which way is up
        return 1


def _memory_of_pixels(size: tuple[int, int], factor: int) -> int:
    """Bytes that `_pixels` takes for a picture of this size."""
    width, height = divided(size, factor)
    return 3 * width * height + _OF_STRIP * size[0] * min(size[1], _rows(size[0], factor))


def _rows(width: int, factor: int) -> int:
    return max(1, _STRIP // (width * factor)) * factor


def _pixels(image: Image.Image, factor: int, profile: Profile, orientation: int) -> NDArray[np.uint8]:
    """A decoded picture as (height, width, 3), its sides divided, sRGB, turned upright.

    It goes strip by strip: a large picture is never there twice.
    """
    import numpy as np

    span = span_of(image)
    width, height = divided(image.size, factor)
    pixels = np.empty((width, height, 3) if orientation in _LYING else (height, width, 3), np.uint8)
    turn = _TURNS.get(orientation)
    as_stored = pixels if turn is None else turn(pixels)
    rows = _rows(image.width, factor)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        strip = flat(image if rows >= image.height else image.crop(box), span)
        if factor > 1:
            strip = strip.reduce(factor)
        as_stored[top // factor : top // factor + strip.height] = np.asarray(profile.to_srgb(strip))
    return pixels


_LYING = (5, 6, 7, 8)
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}
"""By EXIF's orientation: an upright picture as it is stored (a view)."""


def thumbnail(image: NDArray[np.uint8], *, width: int = THUMBNAIL_WIDTH) -> bytes:
    """A JPEG of an RGB image (height, width, 3), at most `width` wide and twice as high; never enlarged."""
    import cv2

    height_now, width_now = image.shape[:2]
    scale = min(width / width_now, 2 * width / height_now)
    small: cv2.typing.MatLike = image
    if scale < 1:
        size = (max(1, round(width_now * scale)), max(1, round(height_now * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY]
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), quality)
    if not done:
        raise BadInput("a frame cannot be written as a JPEG")
    return jpeg.tobytes()


def _what(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
