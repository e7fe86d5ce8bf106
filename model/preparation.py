"""From a decoded picture to the encoder's input size; numpy and OpenCV only, safe in any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Filter = Literal["area", "bilinear", "bicubic"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a checkpoint wants its pictures.

    `size`: side of the square in pixels; the aspect ratio is given up, as in training.
    `channels`: order of the channels that the encoder was trained on.
    `filter`: "area" averages when shrinking and interpolates linearly when enlarging (OpenCV);
    "bilinear" and "bicubic" are Pillow's, which earlier captioners were trained with.
    """

    size: int = 256
    channels: Literal["rgb", "bgr"] = "rgb"
    filter: Filter = "area"

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) RGB → (3, size, size) in the checkpoint's channel order, both uint8."""
        resized = self._resize(image)
        if self.channels == "bgr":
            resized = resized[:, :, ::-1]
        return np.ascontiguousarray(resized.transpose(2, 0, 1))

    def _resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        if (height, width) == (self.size, self.size):
            return image
        if self.filter == "area":
            import cv2

            shrinks = min(height, width) >= self.size
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            resized: Any = cv2.resize(image, (self.size, self.size), interpolation=how)
        else:
            from PIL import Image

            how_ = Image.Resampling.BILINEAR if self.filter == "bilinear" else Image.Resampling.BICUBIC
            resized = np.asarray(Image.fromarray(image).resize((self.size, self.size), how_))
        return np.asarray(resized, dtype=np.uint8)
