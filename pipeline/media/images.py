"""Pictures: any still to upright 8-bit RGB, and RGB to small JPEGs."""

from __future__ import annotations

import functools
import io
import math
import warnings
from typing import TYPE_CHECKING

from pipeline.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

THUMBNAIL_WIDTH = 320  # pixels
THUMBNAIL_QUALITY = 80  # of JPEG

MAX_PIXELS = 90_000_000
"""A picture with more would take some 300 MB and the machine's other work with it. Large JPEGs are decoded
smaller, so the largest cameras' photographs pass."""

SHORTER_SIDE = 512  # pixels; a JPEG is never decoded smaller, twice what the captioner looks at

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
"""Not all that Pillow knows: it would run Ghostscript on a PostScript file that calls itself a JPEG."""

_HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftypheim", b"ftyphevc", b"ftypmif1", b"ftypmsf1")


class NotAPicture(BadInput):
    """A file that is no picture at all, or of a kind that cannot be read."""


class TooManyPixels(BadInput):
    """A picture so large that decoding it might exhaust the memory."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: the picture has too many pixels to decode safely; make it smaller")


def still_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height as the file's header says, without decoding it. Raises NotAPicture, BadInput."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            return image.size
    except Image.DecompressionBombError as error:
        raise TooManyPixels(name) from error
    except UnidentifiedImageError as error:
        raise _not_a_picture(data, name) from error
    except Exception as error:
        raise BadInput(f"{name}: the picture is damaged: {_what(error)}") from error


def decode_still(data: bytes, name: str, *, whole: bool = False) -> NDArray[np.uint8]:
    """The picture in a file's bytes: (height, width, 3), RGB, turned as its EXIF says.

    Transparent pictures are laid on white, more than 8 bits are scaled down, an animation gives its first
    picture. JPEGs with a shorter side of 1024 pixels or more are decoded at a half, a quarter or an eighth,
    unless they are wanted `whole` and are not too large for it.

    Raises:
        BadInput: the file is empty, no picture, cut short, or so large that it would exhaust memory.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise BadInput(f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            if not whole or math.prod(image.size) > MAX_PIXELS:
                _shrink_on_load(image)
            if math.prod(image.size) > MAX_PIXELS:
                raise Image.DecompressionBombError
            return np.asarray(_rgb(_upright(image)))
    except Image.DecompressionBombError as error:
        raise TooManyPixels(name) from error
    except UnidentifiedImageError as error:
        raise _not_a_picture(data, name) from error
    except Exception as error:  # what damaged files raise in Pillow's plug-ins has no common class
        raise BadInput(f"{name}: the picture is damaged: {_what(error)}") from error


def _not_a_picture(data: bytes, name: str) -> NotAPicture:
    if data[4:12] in _HEIF_BRANDS:
        return NotAPicture(f"{name}: HEIC pictures cannot be read; convert it to JPEG")
    return NotAPicture(f"{name}: not a picture, or of a kind that cannot be read")


@functools.cache
def _readable_formats() -> tuple[str, ...]:
    from PIL import Image

    # Remarks about odd but readable pictures would otherwise reach stderr, once for each kind.
    warnings.filterwarnings("ignore", module=r"PIL(\..*)?$")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _shrink_on_load(image: Image.Image) -> None:
    """Let the JPEG decoder skip detail that nobody will look at; other formats ignore it."""
    scale = min(image.size) / SHORTER_SIDE
    if scale >= 2:
        image.draft(None, (math.ceil(image.width / scale), math.ceil(image.height / scale)))


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read says nothing about which way is up
        return image


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its full scale; of 32 bits or floats, which have none, by what it holds."""
    import numpy as np
    from PIL import Image

    grey = np.nan_to_num(np.asarray(image).astype(np.float64))
    low, high = float(grey.min()), float(grey.max())
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    return Image.fromarray(np.rint((grey - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))


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
