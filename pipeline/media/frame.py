"""Frames: what is captioned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
    """Where the scene or the window ends that the frame stands for, which begins at ``timestamp_s``."""
    is_alike: bool = False
    """Whether it looks like the selected frame before it."""
    gap: tuple[float, float] | None = None
    """The stretch right before it, in seconds, of which nothing could be decoded."""


class Feed(Protocol):
    """Where the frames of a source come from that is no file: they come by themselves, and only once."""

    def batches(self, most: int) -> Iterator[list[Frame]]:
        """The frames as they come, at most so many at a time."""

    def facts(self) -> dict[str, object]:
        """What the manifest is to say about it, as JSON types."""


KnownFrame = tuple[int, float]
"""A frame that was read before: its number and its timestamp in seconds."""


@dataclass(slots=True)
class Passage:
    """One of ``of`` about equal, successive passages of a video, the ``index``-th from 0.

    Together they hold the frames of the video, each once: those of passage 0, 1, … up to the first one that
    ran on to the video's end.
    """

    index: int
    of: int
    ran_on: bool = False
    """Set at the end of reading: whether this passage holds all frames up to the end of the video, since it
    showed damage, so that where the next passage begins cannot be told for sure."""

    def cut(self, count: int) -> tuple[int, int | None]:
        """The numbers of the passage's first frame and of the one after its last, in so many frames.

        None stands for the end of the video. Where frames cannot be counted the first passage holds them all.
        """
        if count == 0:
            return (0, None) if self.index == 0 else (0, 0)
        first, end = (count * number // self.of for number in (self.index, self.index + 1))
        return first, None if self.index + 1 == self.of else end
