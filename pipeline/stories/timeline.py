"""What a story is told from: scenes in order, or a text. It is kept in story.json, for the turns to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Any, Literal, cast, get_args

from model.confidence import UNSURE_BELOW
from model.words import join
from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.stories.english import root
from pipeline.stories.lexicon import COMMON_NOUNS
from pipeline.stories.scenes import (
    SAME_SCENE,
    Scene,
    Wording,
    condense,
    find_scenes,
    likeness,
    words_of_caption,
)
from pipeline.stories.shots import SteadyShot, shots

TimelineKind = Literal["video", "stills", "text"]

MOST_KEPT = 60
"""Scenes that a story remembers of its source, however long that is."""
LONGEST_TEXT = 20_000
"""Characters of a text that a story is begun with."""

_WORDINGS_KEPT = 3


@dataclass(frozen=True, slots=True)
class Material:
    """What a story is to be told from: the captions of a film or of stills, or a text.

    ``rows`` is read once, as a stream. ``source`` is the source key, or what names the material otherwise.
    With ``text``, ``rows`` and ``info`` are passed over.
    """

    title: str
    source: str
    info: SourceInfo | None = None
    rows: Iterable[Row] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The condensed material of a story.

    ``scenes`` are at most ``MOST_KEPT``; of stills each shows something else, of a text there are none.
    ``pictures`` counts all captions, ``common`` is what most of them show, and how many.
    Captions of less confidence than ``unsure_below`` are told as unsure.
    """

    kind: TimelineKind
    scenes: tuple[Scene, ...] = ()
    pictures: int = 0
    common: tuple[str, int] | None = None
    text: str | None = None
    unsure_below: float = UNSURE_BELOW

    @property
    def seconds(self) -> float:
        """How long the film is, in seconds; 0 of anything else."""
        return self.scenes[-1].end - self.scenes[0].start if self.kind == "video" and self.scenes else 0.0

    def to_fields(self) -> dict[str, object]:
        """The timeline as JSON types."""
        return {
            "kind": self.kind,
            "pictures": self.pictures,
            "common": None if self.common is None else list(self.common),
            "scenes": [_scene_fields(scene) for scene in self.scenes],
            "text": self.text,
            "unsure_below": self.unsure_below,
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Timeline:
        """The inverse of ``to_fields``. Raises ValueError, KeyError or TypeError for anything else."""
        kind, text, common = fields["kind"], fields["text"], fields["common"]
        if kind not in get_args(TimelineKind):
            raise ValueError(f"unknown kind of material {kind!r}")
        scenes = tuple(_scene(one) for one in islice(fields["scenes"], MOST_KEPT + 1))
        if len(scenes) > MOST_KEPT:
            raise ValueError(f"more than {MOST_KEPT} scenes")
        return cls(
            kind=cast(TimelineKind, kind),
            scenes=scenes,
            pictures=_count(fields["pictures"]),
            common=None if common is None else (as_text(common[0]), _count(common[1])),
            text=None if text is None else as_text(text),
            unsure_below=_number(fields.get("unsure_below", UNSURE_BELOW)),
        )


def timeline_of(material: Material) -> Timeline:
    """Condense material to what a story is told from, and remembers."""
    if material.text is not None:
        return Timeline("text", text=material.text.strip()[:LONGEST_TEXT])
    unsure_below = UNSURE_BELOW if material.info is None else material.info.unsure_below
    tally = _Tally()
    scenes = find_scenes(tally.watch(shots(material.rows)))
    if (material.info is not None and material.info.kind == "video") or tally.timed:
        shown = _rounded(condense(scenes, MOST_KEPT))
        return Timeline("video", shown, tally.pictures, tally.common, unsure_below=unsure_below)
    different = _rounded(spread(_without_repeats(scenes), MOST_KEPT))
    return Timeline("stills", different, tally.pictures, tally.common, unsure_below=unsure_below)


def spread(scenes: list[Scene], limit: int) -> list[Scene]:
    """Return at most ``limit`` scenes, evenly chosen, the first and the last among them."""
    if len(scenes) <= limit:
        return scenes
    return [scenes[round(at * (len(scenes) - 1) / (limit - 1))] for at in range(limit)]


class _Tally:
    """Counts pictures, and in how many of them each well-known noun appears."""

    def __init__(self) -> None:
        self.pictures = 0
        self.timed = False
        self._nouns: Counter[str] = Counter()

    def watch(self, shots: Iterable[SteadyShot]) -> Iterator[SteadyShot]:
        for shot in shots:
            row = shot.row
            if row.words:
                self.pictures += shot.rows
                self.timed = self.timed or row.timestamp_s is not None
                for noun in {root(word) for word in row.words} & COMMON_NOUNS:
                    self._nouns[noun] += shot.rows
            yield shot

    @property
    def common(self) -> tuple[str, int] | None:
        """The noun that most pictures show, and how many do."""
        return max(self._nouns.items(), key=lambda item: (item[1], item[0]), default=None)


def _without_repeats(scenes: list[Scene]) -> list[Scene]:
    """Return the scenes without those that show what an earlier one shows."""
    different: list[Scene] = []
    for scene in scenes:
        earlier = next((one for one in different if likeness(one.words, scene.words) >= SAME_SCENE), None)
        if earlier is None:
            different.append(scene)
        else:
            earlier.frames += scene.frames
    return different


def _rounded(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    """The scenes as JSON keeps them, so that a story is the same told anew from its file."""
    return tuple(_scene(_scene_fields(scene)) for scene in scenes)


def _scene_fields(scene: Scene) -> dict[str, object]:
    wordings = sorted(scene.wordings.values(), key=lambda one: (-one.count, -one.confidence))
    return {
        "start_s": round(scene.start, 3),
        "end_s": round(scene.end, 3),
        "frames": scene.frames,
        "captions": [
            {
                "caption": _single_spaced(one.words),
                "frames": one.count,
                "confidence": round(one.confidence, 4),
            }
            for one in wordings[:_WORDINGS_KEPT]
        ],
    }


def _single_spaced(words: tuple[str, ...]) -> str:
    return join(" ".join(words).split())


def _scene(fields: dict[str, Any]) -> Scene:
    scene = Scene(_number(fields["start_s"]), _number(fields["end_s"]), _count(fields["frames"]))
    for one in islice(fields["captions"], _WORDINGS_KEPT):
        words = words_of_caption(as_text(one["caption"]))
        scene.wordings[" ".join(words)] = Wording(words, _count(one["frames"]), _number(one["confidence"]))
    if not scene.wordings:
        raise ValueError("a scene without a caption")
    return scene


def as_text(value: object) -> str:
    """A field that must hold text. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {value!r}")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise TypeError(f"expected a count, not {value!r}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, not {value!r}")
    if not isfinite(value) or not 0 <= value < 1e12:
        raise ValueError(f"expected a number of seconds, not {value!r}")
    return float(value)
