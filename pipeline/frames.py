"""Frames of videos and stills, one after the other, in the order in which they are captioned.

Nothing here is imported at the top that a scheduler's machine would lack: OpenCV and numpy load on first use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadInput
from pipeline.images import decode_still
from pipeline.selection import Selection
from pipeline.storage import Entry, Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BadFrame", "Frame", "Selection", "read_stills", "read_video"]


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


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A still that cannot be used, and why."""

    position: int
    frame: str
    etag: str | None
    reason: str


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


def read_stills(
    storage: Storage, entries: Iterable[tuple[int, Entry]], *, workers: int
) -> Iterator[Frame | BadFrame]:
    """Decode stills, given with their positions, in their order, a few ahead of the reader.

    At most 2 x `workers` decoded pictures wait at any time.
    """
    ahead = 2 * workers
    waiting: deque[Future[Frame | BadFrame]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="stills") as pool:
        try:
            for position, entry in entries:
                waiting.append(pool.submit(_read_still, storage, position, entry))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read_still(storage: Storage, position: int, entry: Entry) -> Frame | BadFrame:
    try:
        image = decode_still(storage.read(entry.key), entry.name)
    except BadInput as error:
        return BadFrame(position, entry.name, entry.etag, str(error))
    return Frame(position, entry.name, None, image, entry.etag)
