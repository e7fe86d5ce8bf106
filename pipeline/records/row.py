"""The rows of a source: what part files hold, and what reports and stories are made of.

A row is one selected frame with its caption. What is the same for all rows of a source (its key, the model
and the model's version) is not in it. This module imports neither torch nor OpenCV, so that whatever only
reads captions stays light.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from model.confidence import confidence
from model.errors import GpucaptError

MAX_ILLUSTRATED = 300
"""How many frames of a source keep their picture and attention: those that a report can show."""


@dataclass(slots=True)
class Row:
    """One frame of a source, captioned, or a still that could not be used.

    ``position`` counts the selected frames of the source from 0. ``frame`` is the frame's number in a video
    (from 0), or a still's file name; ``timestamp_s`` is in seconds of the video's own clock and ``None`` for
    stills. ``log_prob`` is the caption's natural-log probability. ``attention`` holds
    ``len(words) * grid[0] * grid[1]`` bytes in C order: a (height, width) map for each word. ``thumbnail`` is
    a JPEG. A bad still has ``error`` set, an empty caption and no words. ``reader`` is the version of reading
    stills that a still's row was made by.

    A row that stands for a scene has ``end_s``, its end in seconds, and ``timestamp_s`` is its beginning. Two
    fields stay inside: ``is_alike`` says that the frame looks like the one of the row before, ``gap`` is the
    stretch (from, to) in seconds right before the frame of which nothing could be decoded.
    """

    position: int
    frame: int | str
    timestamp_s: float | None
    caption: str
    words: list[str]
    log_prob: float
    etag: str | None = None
    attention: bytes | None = None
    grid: tuple[int, int] | None = None
    thumbnail: bytes | None = None
    error: str | None = None
    end_s: float | None = None
    is_alike: bool = False
    gap: tuple[float, float] | None = None
    reader: int = 1

    @property
    def confidence(self) -> float:
        """How sure the model was of the caption, from 0 to 1, to four decimals.

        Of ``log_prob`` as files have it, so that whoever reads them finds the same.
        """
        return round(confidence(round(self.log_prob, 4), len(self.words)), 4)

    def to_json(self) -> str:
        """Return the row as one line of JSON, without a line break; bytes become base64."""
        fields: dict[str, object] = {
            "position": self.position,
            "frame": self.frame,
            "timestamp_s": self.timestamp_s,
            "caption": self.caption,
            "words": self.words,
            "log_prob": self.log_prob,
        }
        if self.etag is not None:
            fields["etag"] = self.etag
        if self.attention is not None:
            fields["attention"] = base64.b64encode(self.attention).decode("ascii")
        if self.grid is not None:
            fields["grid"] = list(self.grid)
        if self.thumbnail is not None:
            fields["thumbnail"] = base64.b64encode(self.thumbnail).decode("ascii")
        if self.error is not None:
            fields["error"] = self.error
        if self.end_s is not None:
            fields["end_s"] = self.end_s
        if self.is_alike:
            fields["alike"] = True
        if self.gap is not None:
            fields["gap"] = list(self.gap)
        if self.reader != 1:
            fields["reader"] = self.reader
        # ASCII on purpose: a lone surrogate, as a strange file name may hold, survives only as an escape.
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """Return the row that ``to_json`` wrote as ``line``.

        Raises GpucaptError when the line is not such a row, for instance because its file was cut off.
        """
        try:
            fields = json.loads(line)
            grid, end_s, gap = fields.get("grid"), fields.get("end_s"), fields.get("gap")
            return cls(
                position=int(fields["position"]),
                frame=_frame(fields["frame"]),
                timestamp_s=None if fields["timestamp_s"] is None else float(fields["timestamp_s"]),
                caption=str(fields["caption"]),
                words=[str(word) for word in fields["words"]],
                log_prob=float(fields["log_prob"]),
                etag=_text(fields.get("etag")),
                attention=_bytes(fields.get("attention")),
                grid=None if grid is None else (int(grid[0]), int(grid[1])),
                thumbnail=_bytes(fields.get("thumbnail")),
                error=_text(fields.get("error")),
                end_s=None if end_s is None else float(end_s),
                is_alike=bool(fields.get("alike", False)),
                gap=None if gap is None else (float(gap[0]), float(gap[1])),
                reader=int(fields.get("reader", 1)),
            )
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, binascii.Error) as error:
            raise GpucaptError(
                f"not a row of captions: {line[:80]!r}; remove its file and run again"
            ) from error


def illustration_stride(position: int) -> int:
    """Return the smallest power of two with ``(position + 1) / stride <= 300``."""
    stride = 1
    while position + 1 > MAX_ILLUSTRATED * stride:
        stride *= 2
    return stride


def is_illustrated(position: int) -> bool:
    """Whether the frame at ``position`` keeps its picture and attention.

    The stride grows with the position, so that what a long film keeps stays bounded whatever its length.
    """
    return position % illustration_stride(position) == 0


def _frame(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"a frame is a number or a name, not {value!r}")
    return value


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else base64.b64decode(value, validate=True)
