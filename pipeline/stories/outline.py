"""The story provider that needs nothing but the captions: deterministic, no network, bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import PurePosixPath

from pipeline.rows import Row
from pipeline.source_info import SourceInfo
from pipeline.stories.clock import duration, number
from pipeline.stories.english import Phrase, plural, root
from pipeline.stories.lexicon import COMMON_NOUNS
from pipeline.stories.scenes import SAME_SCENE, Scene, condense, find_scenes, likeness
from pipeline.stories.story import Story, Turn

PROVIDER = "outline"

_MOST_TOLD = 14
_SECONDS_TOLD = 2.5
_SCENES_IN_PARAGRAPH = 4
_PICTURES_IN_SENTENCE = 3
_MOMENT_S = 1.6
_COMMON_SHARE = 0.25


def outline_story(info: SourceInfo, rows: Iterable[Row]) -> Story:
    """Return the story of a source's captions: its scenes in order, told in plain sentences.

    The same rows always give the same story. ``rows`` is read once, as a stream.
    """
    tally = _Tally()
    scenes = find_scenes(tally.watch(rows))
    if not scenes:
        paragraphs = ["There is nothing to tell: no frame has a caption."]
    elif info.kind == "video":
        paragraphs = _tell_film(condense(scenes, _scenes_to_tell(scenes[-1].end - scenes[0].start)))
    else:
        paragraphs = _tell_pictures(scenes, tally)
    turn = Turn(kind="start", provider=PROVIDER, text="\n\n".join(paragraphs))
    return Story(title=_title(info), source=info.key, turns=(turn,))


def _title(info: SourceInfo) -> str:
    name = PurePosixPath(info.name).stem if info.kind == "video" else info.name
    text = " ".join(name.replace("_", " ").replace("-", " ").split())
    return text[:1].upper() + text[1:] or info.name


class _Tally:
    """Counts pictures, and in how many of them each well-known noun appears."""

    def __init__(self) -> None:
        self.pictures = 0
        self.nouns: Counter[str] = Counter()

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.error is None and row.words:
                self.pictures += 1
                self.nouns.update({root(word) for word in row.words} & COMMON_NOUNS)
            yield row


# -- films


def _scenes_to_tell(seconds: float) -> int:
    """Return how many scenes a film of this length is told in: a short one in few."""
    return max(3, min(_MOST_TOLD, round(seconds / _SECONDS_TOLD)))


def _tell_film(scenes: list[Scene]) -> list[str]:
    if len(scenes) == 1:
        length = duration(scenes[0].length)
        return [f"All through this film of {length}, {_phrase(scenes[0]).clause()}."]
    sentences = [_film_sentence(scenes, index) for index in range(len(scenes))]
    starts = _paragraph_starts(len(scenes))
    ends = [*starts[1:], len(scenes)]
    return [" ".join(sentences[start:end]) for start, end in zip(starts, ends, strict=True)]


def _film_sentence(scenes: list[Scene], index: int) -> str:
    scene, phrase = scenes[index], _phrase(scenes[index])
    last = index == len(scenes) - 1
    brief = scene.length < _MOMENT_S
    if brief and (index == 0 or last):
        return f"The film {'opens' if index == 0 else 'ends'} with {phrase.noun_phrase()}."
    seen = any(likeness(earlier.words, scene.words) >= SAME_SCENE for earlier in scenes[: max(index - 1, 0)])
    known = seen or (
        index > 0 and phrase.verb is not None and _phrase(scenes[index - 1]).subject == phrase.subject
    )
    opening = _opening(
        scene, index, brief=brief, last=last, new_paragraph=index in _paragraph_starts(len(scenes))
    )
    again = ", once again" if seen else ""
    return f"{opening}{again}, {phrase.clause(known=known)}."


def _opening(scene: Scene, index: int, *, brief: bool, last: bool, new_paragraph: bool) -> str:
    """Return the words that say when, and for how long."""
    length = duration(scene.length)
    if index == 0:
        return f"For the first {_without_one(length)}"
    if last:
        return f"For the last {_without_one(length)}"
    if new_paragraph:
        return f"After {duration(scene.start)}"
    if brief:
        return ("Then, for a moment", "For a moment", "A moment later")[index % 3]
    following = f"For the next {_without_one(length)}"
    return (following, f"Then, for {length}", f"After that, for {length}")[(index - 1) % 3]


def _without_one(length: str) -> str:
    """Return a duration as it is said after "the first", "the next" or "the last": no "a" or "about"."""
    text = length.removeprefix("about ")
    for one in ("a ", "an "):
        text = text.removeprefix(one)
    return text


def _paragraph_starts(count: int) -> list[int]:
    """Return where paragraphs begin, so that they are of about the same length."""
    paragraphs = max(1, round(count / _SCENES_IN_PARAGRAPH))
    return [round(part * count / paragraphs) for part in range(paragraphs)]


# -- folders of stills


def _tell_pictures(scenes: list[Scene], tally: _Tally) -> list[str]:
    different = _without_repeats(scenes)
    if len(different) == 1:
        return [_pictures_of_one_thing(different[0], tally.pictures)]
    told = _spread(different, _MOST_TOLD)
    among = len(told) < len(different)
    groups = _sentence_groups(told)
    sentences = [_pictures_sentence(group, at, len(groups), among) for at, group in enumerate(groups)]
    paragraphs = [" ".join(sentences)]
    common = _common_thing(tally)
    return [*paragraphs, common] if common else paragraphs


def _pictures_of_one_thing(scene: Scene, pictures: int) -> str:
    thing = _phrase(scene).noun_phrase()
    if pictures == 1:
        return f"The picture shows {thing}."
    every = "Both pictures" if pictures == 2 else f"All {number(pictures)} pictures"
    return f"{every} show {thing}."


def _pictures_sentence(group: list[Scene], at: int, count: int, among: bool) -> str:
    phrases = [_phrase(scene) for scene in group]
    things = _series([phrase.noun_phrase() for phrase in phrases])
    alone = len(group) == 1 and group[0].frames == 1
    show = "picture shows" if alone else "pictures show"
    if count == 1:
        return f"Among the pictures are {things}." if among else f"The pictures show {things}."
    if at == 0:
        return (
            f"Among the first pictures are {things}."
            if among and not alone
            else f"The first {show} {things}."
        )
    if at == count - 1:
        return f"The last {show} {things}."
    if len(group) == 1 and not phrases[0].is_plural:
        return f"Then comes {things}."
    return f"{('Then come', 'After these come', 'Further on come')[(at - 1) % 3]} {things}."


def _sentence_groups(scenes: list[Scene]) -> list[list[Scene]]:
    sentences = -(-len(scenes) // _PICTURES_IN_SENTENCE)
    bounds = [round(at * len(scenes) / sentences) for at in range(sentences + 1)]
    return [scenes[start:end] for start, end in pairwise(bounds)]


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


def _spread(scenes: list[Scene], limit: int) -> list[Scene]:
    """Return at most ``limit`` scenes, evenly chosen, the first and the last among them."""
    if len(scenes) <= limit:
        return scenes
    return [scenes[round(at * (len(scenes) - 1) / (limit - 1))] for at in range(limit)]


def _common_thing(tally: _Tally) -> str | None:
    """Return a sentence on what most of the pictures have in common, when they do."""
    if tally.pictures < 6 or not tally.nouns:
        return None
    noun, count = max(tally.nouns.items(), key=lambda item: (item[1], item[0]))
    if count < max(3, _COMMON_SHARE * tally.pictures):
        return None
    things = plural(noun).capitalize()
    if count == tally.pictures:
        return f"{things} appear in every one of the {number(tally.pictures)} pictures."
    return f"{things} appear in {number(count)} of the {number(tally.pictures)} pictures."


def _series(things: list[str]) -> str:
    if len(things) < 3:
        return " and ".join(things)
    return ", ".join(things[:-1]) + ", and " + things[-1]


def _phrase(scene: Scene) -> Phrase:
    return Phrase.parse(scene.words)
