"""From whatever a file's pixels mean to 8-bit sRGB on white."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageCms

Span = tuple[float, float]
"""What is black and what is white, where pixels have more than 8 bits."""

_KEPT = 8
"""Profiles whose transforms are kept: those of the cameras and editors of one folder."""


def span_of(image: Image.Image) -> Span | None:
    """Of grey with 16 bits its full scale; of 32 bits or floats, which have none, what it holds."""
    import math

    if not (image.mode == "F" or image.mode.startswith("I")):
        return None
    if image.mode.startswith("I;16"):
        # Pillow heeds it where there are 8 bits only.
        white_is_zero = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0
        return (65535.0, 0.0) if white_is_zero else (0.0, 65535.0)
    low, high = (float(end) for end in _extrema(image))
    if image.mode != "F" and low >= 0 and high <= 65535:
        return 0.0, 65535.0
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (0.0, 1.0)


def _extrema(image: Image.Image) -> tuple[float, float]:
    """Pillow's are wrong where there is a NaN."""
    import numpy as np

    lows, highs = [], []
    for top in range(0, image.height, 64):
        rows = np.asarray(image.crop((0, top, image.width, min(top + 64, image.height))))
        rows = np.nan_to_num(rows.astype(np.float64))
        lows.append(rows.min())
        highs.append(rows.max())
    return float(min(lows)), float(max(highs))


def flat(image: Image.Image, span: Span | None) -> Image.Image:
    """8 bits without transparency: mode L, RGB, CMYK or LAB; what one can see through is laid on white."""
    from PIL import Image

    if span is not None:
        return _eight_bits(image, span)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(image: Image.Image, span: Span) -> Image.Image:
    import numpy as np
    from PIL import Image

    low, high = span
    grey = np.nan_to_num(np.asarray(image).astype(np.float64))
    grey = (grey - low) * (255 / ((high - low) or 1e-9))
    return Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8))


class Profile:
    """A file's colour profile (ICC); None, and a broken one, change nothing."""

    def __init__(self, profile: bytes | None) -> None:
        self._profile = profile

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """An image of mode L, RGB, CMYK or LAB as RGB."""
        from PIL import ImageCms

        transform = _transforms.of(self._profile, image.mode) if self._profile else None
        if transform is None:
            return image.convert("RGB")
        changed = ImageCms.applyTransform(image, transform)
        return image.convert("RGB") if changed is None else changed


class _Transforms:
    """Transforms to sRGB by profile and mode; None for what is sRGB already, or broken."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, str], ImageCms.ImageCmsTransform | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
        key = hashlib.sha256(profile).digest(), mode
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _transform(profile, mode)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


_transforms = _Transforms()


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    from PIL import ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            # The cache of the last pixel would be shared by threads.
            flags=ImageCms.Flags.NOCACHE,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if mode in ("L", "RGB") and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a sample of all colours stays as it is, to two of 255: so do all that are called sRGB."""
    import numpy as np
    from PIL import Image, ImageCms

    levels = np.linspace(0, 255, 9 if mode == "RGB" else 256).astype(np.uint8)
    sample = (
        np.stack(np.meshgrid(*[levels] * 3), axis=-1).reshape(9, -1, 3) if mode == "RGB" else levels[None]
    )
    before = Image.fromarray(sample)
    after = ImageCms.applyTransform(before, transform)
    difference = np.asarray(after, np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return bool(np.abs(difference).max() <= 2)
