"""What was found out about a video while it was read: by what, and what of it could not be decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, cast, get_args

VideoBackend = Literal["opencv", "pyav"]

Gap = tuple[float, float]
"""A stretch of a video of which nothing could be decoded: from, to, in seconds."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """By which backend a video was read and why by that one, as far as that is known; its gaps in order."""

    backend: VideoBackend | None = None
    why: str = ""
    gaps: tuple[Gap, ...] = ()

    @property
    def undecoded_s(self) -> float:
        """How many seconds of the video could not be decoded."""
        return seconds_of(self.gaps)

    def to_json(self) -> dict[str, object]:
        """The facts as JSON types."""
        return {"backend": self.backend, "why": self.why, "gaps": [list(gap) for gap in self.gaps]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> VideoFacts:
        """The inverse of ``to_json``. Raises ValueError, KeyError or TypeError for anything else."""
        backend, gaps = fields["backend"], tuple((float(start), float(end)) for start, end in fields["gaps"])
        if backend is not None and backend not in get_args(VideoBackend):
            raise ValueError(f"no backend is called {backend!r}")
        if not all(isfinite(time) for gap in gaps for time in gap):
            raise ValueError("a gap without an end")
        return cls(cast(VideoBackend | None, backend), str(fields["why"]), gaps)


def seconds_of(gaps: Iterable[Gap]) -> float:
    """How long gaps are together, to the millisecond."""
    return round(sum(end - start for start, end in gaps), 3)


def join_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Return gaps in order, to the millisecond; those that touch or overlap are one, what is shorter is none.

    A gap may be among them twice: of a video that two workers read, either may tell of it.
    """
    found: list[Gap] = []
    for start, end in sorted((round(start, 3) + 0.0, round(end, 3) + 0.0) for start, end in gaps):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return tuple(found)


def facts_together(told: Iterable[VideoFacts | None]) -> VideoFacts:
    """Return what several readings of one video found out together, as of its pieces, in their order."""
    known = [facts for facts in told if facts is not None]
    by = next((facts for facts in known if facts.backend is not None), VideoFacts())
    return VideoFacts(by.backend, by.why, join_gaps(gap for facts in known for gap in facts.gaps))
