"""Frames: what is captioned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.records.video_facts import Gap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded image of a source."""

    position: int
    """From 0, among the selected frames of the source."""
    frame: int | str
    """The frame's number in the video from 0, or the still's file name."""
    timestamp_s: float | None
    """Seconds, as the video's stream says; None for stills."""
    image: NDArray[np.uint8]
    """(height, width, 3), RGB, upright."""
    etag: str | None = None
    """The still's; None for videos."""
    end_s: float | None = None
    """The end of the scene that it stands for, in seconds; ``timestamp_s`` is then its beginning."""
    is_alike: bool = False
    """Whether it looks like the selected frame before it."""
    gap: Gap | None = None
    """What right before it could not be decoded."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image of a video: its number, its pixels (height, width, 3) in RGB, upright and in shape."""

    number: int
    image: NDArray[np.uint8]
    gap: Gap | None = None
    """What before it could not be decoded, though a frame of it was wanted."""


class Feed(Protocol):
    """Where the frames of a source come from that is no file: they come by themselves, and only once."""

    def batches(self, most: int) -> Iterator[list[Frame]]:
        """The frames as they come, at most so many at a time."""

    def facts(self) -> dict[str, object]:
        """What the manifest is to say about it, as JSON types."""


KnownFrame = tuple[int, float]
"""A frame that was read before: its number and its timestamp in seconds."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One of ``of`` about equal, successive passages of a video, the ``index``-th from 0.

    Together they hold the frames of the video, each once.
    """

    index: int
    of: int

    def cut(self, count: int) -> tuple[int, int]:
        """The numbers of the passage's first frame and of the one after its last, in so many frames."""
        first, end = (count * number // self.of for number in (self.index, self.index + 1))
        return first, end
