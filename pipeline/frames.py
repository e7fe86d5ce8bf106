"""Frames: what is captioned, and how those of a video are read one after the other.

Nothing here is imported at the top that a scheduler's machine would lack: OpenCV and numpy load on first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.selection import Selection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Frame", "Selection", "read_video"]


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


def read_video(
    path: Path,
    selection: Selection,
    *,
    first_position: int = 0,
    frame_range: tuple[int, int] | None = None,
) -> Iterator[Frame]:
    """The selected frames of a video from `first_position` on, in order.

    Args:
        path: a local file.
        first_position: frames before it are passed over, as cheaply as the same choice of frames allows.
        frame_range: only frames numbered in [first, end); positions still count from the video's start.

    Raises:
        BadInput: with the first frame, when not one can be decoded. A damaged film gives what decodes.
    """
    from pipeline.video import read

    return read(path, selection, first_position, frame_range)
