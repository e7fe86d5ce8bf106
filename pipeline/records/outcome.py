"""What became of a source, and of the files that it consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.records.source_info import SourceKind

Status = Literal["captioned", "already done", "set aside", "left"]


@dataclass(frozen=True, slots=True)
class PieceDone:
    """What finishing a source must know of one of its pieces; the last three once it is captioned."""

    index: int
    of: int
    kind: SourceKind
    fingerprint: str = ""
    rows: int = 0
    ran_on: bool = False
    """Whether a film's piece holds everything up to the film's end, as one of an earlier version may."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a source or a piece.

    ``reason`` says why one was set aside, or left for the next run; ``untold`` why one that is captioned has
    no story, though it should. ``undecoded_s`` seconds of a film that is captioned could not be decoded.
    """

    key: str
    status: Status
    frames: int = 0
    reason: str | None = None
    piece: PieceDone | None = None
    untold: str | None = None
    undecoded_s: float = 0.0

    def to_fields(self) -> dict[str, Any]:
        """As JSON types. Damage is told where there is some: the version before does not know the field."""
        fields = asdict(self)
        if not self.undecoded_s:
            del fields["undecoded_s"]
        return fields

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Outcome:
        """The inverse of ``to_fields``."""
        piece = fields.get("piece")
        return cls(**{**fields, "piece": None if piece is None else PieceDone(**piece)})


@dataclass(frozen=True, slots=True)
class Input:
    """A file that a source consists of: its key under SOURCE, its ETag, and why it cannot be used, if so.

    ``name`` is how errors name it: by the source key and the file's name.
    """

    key: str
    etag: str
    name: str
    error: str | None = None
    size: int = 0
    modified: float = 0.0


@dataclass(slots=True)
class Totals:
    """Counts over a run; ``errors`` counts what was set aside, sources and single stills, and ``untold``."""

    captioned: int = 0
    already_done: int = 0
    set_aside: int = 0
    left: int = 0
    frames: int = 0
    errors: int = 0
    untold: int = 0
    """Stories that could not be told."""
    damaged: int = 0
    """Films that were captioned, but not whole: something of them could not be decoded."""

    @property
    def done(self) -> int:
        """Sources whose outputs are there."""
        return self.captioned + self.already_done

    @property
    def sources(self) -> int:
        """All sources that were found."""
        return self.done + self.set_aside + self.left

    @property
    def counts(self) -> dict[str, int]:
        """As the run's files name them."""
        return {
            "sources": self.sources,
            "captioned": self.captioned,
            "already_done": self.already_done,
            "set_aside": self.set_aside,
            "left": self.left,
            "damaged": self.damaged,
            "frames": self.frames,
            "errors": self.errors,
        }
