"""TIFFs that store 16-bit colours plane after plane, uncompressed: Pillow shows another picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_MODES = {3: "RGB", 4: "CMYK"}
_SEPARATED = 5


@dataclass(frozen=True, slots=True)
class DeepPlanes:
    """The planes of such a TIFF, whose header has been read."""

    image: Image.Image
    data: bytes
    mode: str

    @classmethod
    def of(cls, image: Image.Image, data: bytes) -> DeepPlanes | None:
        """None where Pillow decodes it rightly."""
        tags: Any = getattr(image, "tag_v2", {})
        samples = tags.get(277, 1)
        is_it = tags.get(284) == 2 and tags.get(259, 1) == 1 and 273 in tags and samples >= 3
        if not is_it or set(tags.get(258, ())) != {16}:
            return None
        return cls(image, data, _MODES[4 if tags.get(262) == _SEPARATED else 3])

    @property
    def memory(self) -> int:
        """Bytes that decoding takes at most."""
        return 16 * self.image.width * self.image.height

    def load(self) -> Image.Image:
        """The picture with 8 bits. Raises ValueError where it is cut off."""
        import numpy as np
        from PIL import Image

        tags: Any = self.image.tag_v2  # type: ignore[attr-defined]
        # Pillow has its size turned; the planes are not.
        width, height = tags[256], tags[257]
        high = 0 if tags.prefix == b"MM" else 1
        offsets, counts = tags[273], tags[279]
        each = len(offsets) // tags.get(277, 1)
        bands = []
        for first in range(0, len(self.mode) * each, each):
            strips = zip(offsets[first : first + each], counts[first : first + each], strict=True)
            plane = b"".join(self.data[offset : offset + count] for offset, count in strips)
            bands.append(np.frombuffer(plane, np.uint8)[high::2][: width * height].reshape(height, width))
        picture = Image.merge(self.mode, [Image.fromarray(band) for band in bands])
        picture.info = self.image.info
        picture.getexif()[274] = tags.get(274, 1)
        return picture
