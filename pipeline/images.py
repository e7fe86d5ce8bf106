"""Pictures: any still to upright 8-bit RGB, and RGB to small JPEGs."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from pipeline.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

THUMBNAIL_WIDTH = 320  # pixels
THUMBNAIL_QUALITY = 80  # of JPEG


def decode_still(data: bytes, name: str) -> NDArray[np.uint8]:
    """The picture in a file's bytes: (height, width, 3), RGB, turned as its EXIF says.

    Transparent pictures are laid on white, more than 8 bits are scaled down, of an animation the first picture
    counts.

    Raises:
        BadInput: the file is empty, no picture, cut short, or so large that it would exhaust memory.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise BadInput(f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(_upright_rgb(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{name}: the picture is too large to decode safely; make it smaller") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{name}: not a picture, or of a kind that cannot be read") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise BadInput(f"{name}: the picture is damaged: {_one_line(error)}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        import numpy as np

        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def thumbnail(image: NDArray[np.uint8], *, width: int = THUMBNAIL_WIDTH) -> bytes:
    """A JPEG of an RGB image (height, width, 3), at most `width` pixels wide; never enlarged."""
    import cv2

    scale = width / image.shape[1]
    if scale < 1:
        size = (width, max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    done, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY]
    )
    if not done:
        raise BadInput("a frame could not be written as a JPEG")
    return jpeg.tobytes()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
