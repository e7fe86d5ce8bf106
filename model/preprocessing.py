"""From a decoded picture to the encoder's input size; numpy, OpenCV and Pillow only, safe in any thread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import GpucaptError

Picture = NDArray[np.uint8]
Filter = Literal["area", "bilinear", "bicubic", "skimage"]
_PANORAMA = 16  # times as long as high


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a checkpoint wants its pictures.

    `size`: side of the square in pixels; the aspect ratio is given up, as in training.
    `channels`: order of the channels that the encoder was trained on.
    `filter`: "area" averages when shrinking and interpolates linearly when enlarging (OpenCV);
    "bilinear" and "bicubic" are Pillow's, "skimage" is what scikit-image's `resize` does by default,
    which earlier captioners were trained with.
    `shorter_side`: keep the aspect ratio; make the shorter side that long, then cut the square out of
    the middle (by Pillow's filters only).
    """

    size: int = 256
    channels: Literal["rgb", "bgr"] = "rgb"
    filter: Filter = "area"
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("channels", self.channels, ("rgb", "bgr")),
            ("filter", self.filter, get_args(Filter)),
        ):
            if value not in known:
                raise GpucaptError(f"Pictures cannot have {name} {value!r}; use {', '.join(known)}.")
        if self.shorter_side is not None:
            if self.shorter_side < self.size:
                raise GpucaptError(
                    f"A square of {self.size} pixels cannot be cut out of pictures whose shorter side has "
                    f"{self.shorter_side}."
                )
            if self.filter not in ("bilinear", "bicubic"):
                raise GpucaptError(
                    f"Squares cannot be cut out with the filter {self.filter}; use bilinear or bicubic."
                )

    @property
    def whole(self) -> bool:
        """Whether pictures are to come with every pixel they have. What a decoder may leave out of a large
        JPEG, to be quicker, earlier captioners have seen."""
        return self.filter != "area"

    def __call__(self, image: Picture) -> Picture:
        """(H, W, 3) RGB → (3, size, size) in the checkpoint's channel order, both uint8."""
        resized = self._resize(image)
        if self.channels == "bgr":
            resized = resized[:, :, ::-1]
        return np.ascontiguousarray(resized.transpose(2, 0, 1))

    def _resize(self, image: Picture) -> Picture:
        if self.shorter_side is not None:
            return self._cut_out(image, self.shorter_side)
        height, width = image.shape[:2]
        if (height, width) == (self.size, self.size):
            return image
        if self.filter == "skimage":
            return _as_skimage(image, self.size)
        if self.filter == "area":
            import cv2

            shrinks = min(height, width) >= self.size
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            resized: Any = cv2.resize(image, (self.size, self.size), interpolation=how)
            return np.asarray(resized, dtype=np.uint8)
        return self._by_pillow(image, self.size, self.size)

    def _cut_out(self, image: Picture, shorter_side: int) -> Picture:
        """The square in the middle; sides and place are rounded as torchvision's Resize and CenterCrop do."""
        height, width = image.shape[:2]
        if max(height, width) > _PANORAMA * min(height, width):
            # The whole panorama, enlarged, could fill the memory. Its middle is the same to a rounding.
            kept = _PANORAMA * min(height, width)
            top, left = (max(0, side - kept) // 2 for side in (height, width))
            image = image[top : top + kept, left : left + kept]
            height, width = image.shape[:2]
        sides = [int(shorter_side * side / min(height, width)) for side in (height, width)]
        top, left = (round((side - self.size) / 2) for side in sides)
        whole = self._by_pillow(image, sides[0], sides[1])
        return whole[top : top + self.size, left : left + self.size]

    def _by_pillow(self, image: Picture, height: int, width: int) -> Picture:
        from PIL import Image

        how = Image.Resampling.BILINEAR if self.filter == "bilinear" else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(image).resize((width, height), how), dtype=np.uint8)


def _as_skimage(image: Picture, size: int) -> Picture:
    """What `img_as_ubyte(skimage.transform.resize(image, (size, size)))` gives.

    Both of its steps, a Gaussian against aliasing and linear interpolation, are sums over pixels of a row
    or a column, so that each axis takes one product with a matrix.
    """
    rows, columns = (_gauss_then_linear(side, size) for side in image.shape[:2])
    # Channel by channel: a large photograph in floats is large.
    planes = [rows @ image[:, :, channel].astype(np.float32) @ columns.T for channel in range(3)]
    return np.stack(planes, axis=2).round().clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def _gauss_then_linear(side: int, size: int) -> NDArray[np.float32]:
    """(size, side): how much of each old pixel goes into each new one, along one axis.

    Pixels are points in the middle of their squares; what lies outside the picture is its mirror image
    about the outermost points (scipy's mode "mirror").
    """
    step = side / size
    places = (np.arange(size) + 0.5) * step - 0.5
    below = np.floor(places).astype(np.int64)
    share = places - below
    sigma = max(0.0, (step - 1) / 2)
    reach = int(4 * sigma + 0.5)
    taps = np.arange(-reach, reach + 1)
    gauss = np.exp(-0.5 * (taps / sigma) ** 2) if sigma else np.ones(1)
    gauss /= gauss.sum()
    matrix = np.zeros((size, side))
    for neighbour, weight in ((below, 1 - share), (below + 1, share)):
        # Interpolation looks at blurred pixels, so what it sees beyond the edge is mirrored by itself.
        inside = _mirrored(neighbour, side)
        seen = _mirrored(inside[:, None] + taps, side)
        np.add.at(matrix, (np.arange(size)[:, None], seen), weight[:, None] * gauss)
    return matrix.astype(np.float32)


def _mirrored(places: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Indices of any size to those of a row of `side` pixels, mirrored about its outermost ones."""
    if side == 1:
        return np.zeros_like(places)
    folded = places % (2 * side - 2)
    return np.minimum(folded, 2 * side - 2 - folded)
