"""Finds the scenes of a stream of shots: runs of them that show the same thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from model.words import part
from pipeline.stories.english import Phrase, content_words
from pipeline.stories.shots import SteadyShot

SAME_SCENE = 0.6
"""Captions that share this part of their meaningful words (Jaccard) are about the same thing."""

_ODD_FRAME = 0.15
_MOST_SCENES = 200
_MOST_WORDINGS = 12


@dataclass(slots=True)
class Wording:
    """One caption of a scene: how often it came, and how sure the model was in sum."""

    words: tuple[str, ...]
    count: int
    confidence: float


@dataclass(slots=True)
class Scene:
    """A run of shots with captions alike, from ``start`` to ``end`` in seconds; all their frames count."""

    start: float
    end: float
    frames: int
    wordings: dict[str, Wording] = field(default_factory=dict)

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def words(self) -> tuple[str, ...]:
        """The wording that tells the scene: the commonest, then the surest, then the first."""
        return max(self.wordings.values(), key=lambda wording: (wording.count, wording.confidence)).words

    @property
    def phrase(self) -> Phrase:
        """The telling wording, taken apart."""
        return Phrase.parse(self.words)

    def copy(self) -> Scene:
        """Return a scene that can be changed without this one."""
        wordings = {text: replace(wording) for text, wording in self.wordings.items()}
        return replace(self, wordings=wordings)

    def add(self, shot: SteadyShot, words: tuple[str, ...]) -> None:
        """Take the next shot, whose caption is that of all its frames, into this one."""
        self.end = shot.end_ms / 1000
        self.frames += shot.rows
        self._count(" ".join(words), Wording(words, shot.rows, shot.rows * shot.row.confidence))

    def absorb(self, other: Scene) -> None:
        """Take a neighbouring scene into this one."""
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.frames += other.frames
        for text, wording in other.wordings.items():
            self._count(text, wording)

    def _count(self, text: str, wording: Wording) -> None:
        known = self.wordings.get(text)
        if known is not None:
            known.count += wording.count
            known.confidence += wording.confidence
        elif len(self.wordings) < _MOST_WORDINGS:
            self.wordings[text] = wording


def likeness(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Return which part of their meaningful words two captions share, from 0 to 1."""
    if one == other:
        return 1.0
    left, right = content_words(one), content_words(other)
    return len(left & right) / len(left | right) if left | right else 0.0


def words_of_caption(text: str) -> tuple[str, ...]:
    """Return the words of a caption that was written as text."""
    return tuple(word for run in text.split() for word in part(run))


def find_scenes(shots: Iterable[SteadyShot]) -> list[Scene]:
    """Return the scenes of a source in order, at most some hundred however long it is.

    Shots whose caption says nothing ("a") belong to the scene before. A single odd frame in a scene does not
    part it.
    """
    scenes: list[Scene] = []
    for shot in shots:
        words = tuple(shot.row.words) or words_of_caption(shot.row.caption)
        if not content_words(words):
            if scenes:
                scenes[-1].end = shot.end_ms / 1000
            continue
        if not scenes or likeness(scenes[-1].words, words) < SAME_SCENE:
            start = shot.start_ms / 1000
            scenes.append(Scene(start, start, 0))
            _join_around_flicker(scenes, words)
        scenes[-1].add(shot, words)
        if len(scenes) > _MOST_SCENES:
            scenes = condense(scenes, _MOST_SCENES // 2)
    return _without_odd_frames(scenes)


def condense(scenes: list[Scene], limit: int) -> list[Scene]:
    """Return at most ``limit`` scenes: the shortest joins the neighbour more like it, again and again."""
    kept = list(scenes)
    while len(kept) > limit:
        index = min(range(len(kept)), key=lambda at: (kept[at].frames, at))
        neighbours = [at for at in (index - 1, index + 1) if 0 <= at < len(kept)]
        into = max(neighbours, key=lambda at: (likeness(kept[at].words, kept[index].words), kept[at].frames))
        first, second = sorted((index, into))
        kept[first].absorb(kept[second])
        del kept[second]
    return kept


def _without_odd_frames(scenes: list[Scene]) -> list[Scene]:
    """Join single frames beside a longer scene to it, when their captions have something in common."""
    kept: list[Scene] = []
    for index, scene in enumerate(scenes):
        following = scenes[index + 1 : index + 2]
        if kept and _is_odd_frame_of(kept[-1], scene):
            kept[-1].absorb(scene)
        elif following and _is_odd_frame_of(following[0], scene):
            following[0].absorb(scene)
        else:
            kept.append(scene)
    return kept


def _is_odd_frame_of(scene: Scene, single: Scene) -> bool:
    return single.frames == 1 and scene.frames > 2 and likeness(scene.words, single.words) > _ODD_FRAME


def _join_around_flicker(scenes: list[Scene], words: tuple[str, ...]) -> None:
    """When the scene that begins with ``words`` is the one before a single odd frame, go on with that one."""
    if len(scenes) < 3:
        return
    earlier, odd = scenes[-3], scenes[-2]
    if odd.frames == 1 and earlier.frames > 1 and likeness(earlier.words, words) >= SAME_SCENE:
        earlier.absorb(odd)
        earlier.absorb(scenes[-1])
        del scenes[-2:]
