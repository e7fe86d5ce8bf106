"""What is the same for all rows of one source: its key, the model that captioned it, the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from model.confidence import UNSURE_BELOW

SourceKind = Literal["video", "stills"]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """One source as its outputs describe it.

    ``key`` is the source key (a '/'-separated path). ``settings`` are the ones that change the result, as
    JSON types. ``unsure_below`` is the confidence below which the model's captions are marked.
    """

    key: str
    kind: SourceKind
    model: str
    model_version: str
    fingerprint: str
    settings: dict[str, object] = field(default_factory=dict)
    unsure_below: float = UNSURE_BELOW

    @property
    def name(self) -> str:
        """The last part of the key: the video's file name, or the folder's."""
        return self.key.rstrip("/").rsplit("/", 1)[-1]
