"""What the threads of a job hand each other: a source being worked on, chunks of it, its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.records.video_facts import VideoFacts
from pipeline.sources.discovery import Source
from pipeline.state.fingerprints import Snapshot
from pipeline.state.leases import Claim
from pipeline.state.parts import Parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class Work:
    """A source that this job has claimed and works on."""

    source: Source
    info: SourceInfo
    claim: Claim
    parts: Parts
    snapshot: Snapshot
    first: int
    """The first position that no part holds."""
    abandoned: bool = False
    """Another worker took over: whatever still comes of it is thrown away."""
    film: tuple[str, ...] = ()
    """Relative URLs, from the report, of where the film may lie."""

    @property
    def rows_digest(self) -> str:
        """What the rows depend on besides the files."""
        return self.info.fingerprint.partition("-")[0]


@dataclass(slots=True, eq=False)
class Chunk:
    """Successive rows of a source, from the position ``first`` on.

    ``images`` holds what is still to be captioned: the prepared picture (3, S, S) of the row at each index.
    """

    work: Work
    first: int
    rows: list[Row] = field(default_factory=list)
    images: dict[int, Picture] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """All chunks of a source have come; it has ``total`` rows.

    ``facts`` are of a film. A gap that lies before a frame comes with the frame's row, too, as a resumed run
    does not see it again; the one after the last frame comes only here.
    """

    work: Work
    total: int
    facts: VideoFacts | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """A source that cannot be used after all, or not now."""

    work: Work
    reason: str
    is_left: bool = False
    """Whether a later run may well use it."""


Message = Chunk | End | Failed | None
"""What readers send; None says that nothing comes for a while, so rests need not wait for company."""
