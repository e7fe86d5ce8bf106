"""Which frames of a video are captioned. Light enough for the command line and the DAGs to import."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.errors import GpucaptError


@dataclass(frozen=True, slots=True)
class Selection:
    """One rule, the first that is set: `scenes`, `fps`, `every`; with none of them, every frame.

    The two limits apply to what the rule chose: first duplicates go, then the rest is counted.
    """

    every: float | None = 1.0
    """Seconds: the first frame at or after each multiple of this, counted from the first frame."""
    fps: float | None = None
    """Frames a second: the same as `every` with 1 / fps."""
    scenes: bool = False
    """One frame for each scene between two cuts, the middle one."""
    max_frames: int | None = None
    """Stop after so many frames: the first ones, not an even spread, so that a video is read only so far."""
    skip_duplicates: bool = False
    """Leave out a frame that looks like the last one kept."""

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("fps", self.fps)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise GpucaptError(f"{name} must be a number above 0, not {value}")
        if self.max_frames is not None and self.max_frames < 1:
            raise GpucaptError(f"max-frames must be at least 1, not {self.max_frames}")

    @property
    def interval_s(self) -> float | None:
        """Seconds between two frames, where the selection goes by time."""
        if self.scenes:
            return None
        return 1 / self.fps if self.fps is not None else self.every

    @property
    def can_be_split(self) -> bool:
        """Whether passages of a video can be worked on apart and put together again."""
        return not (self.skip_duplicates or self.max_frames is not None)
