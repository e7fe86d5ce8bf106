"""What a caption job is asked to do, and with what."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from model.errors import GpucaptError
from pipeline.records.frame_selection import Selection
from pipeline.records.source_info import SourceKind
from pipeline.runtime.cpu_limits import available_cores

STORIES = ("outline", "openai", "none")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
VIDEO_BACKENDS = ("auto", "opencv", "pyav")


@dataclass(frozen=True, slots=True)
class CaptionSettings:
    """What changes the result. ``model`` is a checkpoint directory, or None for the default."""

    selection: Selection = field(default_factory=Selection)
    beam_size: int = 5
    max_length: int = 40
    precision: str = "auto"
    story: str = "outline"
    model: str | None = None
    video_backend: str = "auto"

    def __post_init__(self) -> None:
        _at_least_one("beam-size", self.beam_size)
        _at_least_one("max-length", self.max_length)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("story", self.story, STORIES)
        _one_of("video-backend", self.video_backend, VIDEO_BACKENDS)

    def of_rows(self, kind: SourceKind) -> dict[str, object]:
        """The settings that change the rows of a source, as JSON types."""
        settings: dict[str, object] = {
            "beam_size": self.beam_size,
            "max_length": self.max_length,
            "precision": self.precision,
        }
        if kind == "video":
            chosen = asdict(self.selection)
            if self.selection.interval_s is not None:
                # --fps 2 and --every 0.5 ask for the same frames.
                chosen["every"], chosen["fps"] = self.selection.interval_s, None
            settings.update(chosen)
            if self.video_backend != "auto":
                settings["video_backend"] = self.video_backend
        elif self.selection.max_frames is not None:
            settings["max_frames"] = self.selection.max_frames
        return settings

    def of_result(self, kind: SourceKind) -> dict[str, object]:
        """The settings that change any output of a source, as JSON types."""
        return {**self.of_rows(kind), "story": self.story}

    def to_json(self) -> dict[str, object]:
        """All of it, for the plan that other processes work by.

        What an earlier version does not know is left out where it says nothing.
        """
        fields = asdict(self)
        if self.video_backend == "auto":
            del fields["video_backend"]
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> CaptionSettings:
        """The inverse of ``to_json``. Raises GpucaptError for what this version does not know."""
        try:
            return cls(**{**fields, "selection": Selection(**fields["selection"])})
        except (TypeError, KeyError) as error:
            raise GpucaptError(
                f"the plan has settings unknown to this version of gpucapt ({error})"
            ) from error


@dataclass(frozen=True, slots=True)
class Resources:
    """What the job may use; none of it changes the rows. ``batch_size`` None: as suits the device."""

    device: str = "auto"
    batch_size: int | None = None
    workers: int = field(default_factory=lambda: min(16, available_cores()))
    """Threads that decode and resize; a quarter of them, up to four, also read a source each."""

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            _at_least_one("batch-size", self.batch_size)
        _at_least_one("workers", self.workers)

    @property
    def readers(self) -> int:
        """How many sources are read at the same time."""
        return max(1, min(4, self.workers // 4))


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise GpucaptError(f"{name} must be at least 1, not {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise GpucaptError(f"{name} must be one of {', '.join(known)}, not {value!r}")
