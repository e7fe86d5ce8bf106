"""What the server takes at most."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from model.errors import GpucaptError
from pipeline.errors import WrongUsage
from pipeline.runtime.config import Tuning
from pipeline.storage.open import is_s3
from pipeline.storage.s3.uri import Place

_HELD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, times seconds."""

    image_bytes: int
    image_pixels: int
    images: int
    """In one request."""
    video_bytes: int
    video_seconds: float
    text_length: int
    """Characters of a text that a story is told from."""
    queue: int
    """Pictures that wait for the model, of all clients together."""
    videos: int
    """Films that wait, or are being captioned."""
    keep_s: float
    """How long what came of a film can be fetched."""
    grace_s: float
    """How long the server, asked to end, goes on with what it has begun."""
    allowed: tuple[Place, ...]
    """Where objects may be read for clients."""

    @classmethod
    def of(cls, tuning: Tuning) -> Limits:
        """The limits as they are set. Raises WrongUsage where a prefix is none."""
        return cls(
            image_bytes=tuning.serve_image_size,
            image_pixels=tuning.serve_image_pixels,
            images=min(tuning.serve_images, tuning.serve_queue),
            video_bytes=tuning.serve_video_size,
            video_seconds=tuning.serve_video_seconds,
            text_length=tuning.serve_text_length,
            queue=tuning.serve_queue,
            videos=tuning.serve_videos,
            keep_s=tuning.serve_keep,
            grace_s=tuning.serve_grace,
            allowed=_places(tuning.serve_allow or ""),
        )

    @property
    def request_bytes(self) -> int:
        """All images of one request: some large ones, or many as cameras make them."""
        return max(self.image_bytes, min(self.images * self.image_bytes, 64 << 20)) + (64 << 10)

    @property
    def held_bytes(self) -> int:
        """Of all requests that are being read, until their pictures are decoded."""
        return max(_HELD_BYTES, 2 * self.request_bytes)

    @property
    def captions_length(self) -> int:
        """Characters of all captions that a story is told from: an hour's, a few times over."""
        return 50 * self.text_length

    @property
    def json_bytes(self) -> int:
        """A body of JSON: captions with their times, or a story with all its turns."""
        return 4 * self.captions_length

    def told(self) -> dict[str, float]:
        """Those that clients are told of."""
        names = ("image_bytes", "image_pixels", "images", "video_bytes", "video_seconds", "text_length")
        return {name: value for name, value in asdict(self).items() if name in names}


def _places(prefixes: str) -> tuple[Place, ...]:
    wanted = [part.strip() for part in prefixes.split(",") if part.strip()]
    if wrong := [prefix for prefix in wanted if not is_s3(prefix)]:
        raise WrongUsage(f"GPUCAPT_SERVE_ALLOW has {wrong[0]}, which is no s3://bucket/prefix/")
    try:
        return tuple(Place.parse(prefix) for prefix in wanted)
    except GpucaptError as error:
        raise WrongUsage(f"GPUCAPT_SERVE_ALLOW: {error}") from error
