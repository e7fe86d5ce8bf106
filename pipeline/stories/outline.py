"""The story provider that needs nothing but the captions: deterministic, no network, bounded memory."""

from __future__ import annotations

from itertools import pairwise

from pipeline.stories.english import plural
from pipeline.stories.number_words import duration, number
from pipeline.stories.scenes import SAME_SCENE, Scene, condense, likeness
from pipeline.stories.timeline import Timeline, spread

_MOST_TOLD = 14
_SECONDS_TOLD = 2.5
_SCENES_IN_PARAGRAPH = 4
_PICTURES_IN_SENTENCE = 3
_MOMENT_S = 1.6
_COMMON_SHARE = 0.25


def outline_paragraphs(timeline: Timeline) -> list[str]:
    """Return a timeline told from beginning to end, as paragraphs. Always the same ones of the same."""
    scenes = list(timeline.scenes)
    if not scenes:
        return ["There is nothing to tell: no frame has a caption."]
    if timeline.kind == "video":
        return _tell_film(condense([scene.copy() for scene in scenes], _scenes_to_tell(timeline.seconds)))
    return _tell_pictures(scenes, timeline)


# -- films


def _scenes_to_tell(seconds: float) -> int:
    """Return how many scenes a film of this length is told in: a short one in few."""
    return max(3, min(_MOST_TOLD, round(seconds / _SECONDS_TOLD)))


def _tell_film(scenes: list[Scene]) -> list[str]:
    if len(scenes) == 1:
        length = duration(scenes[0].length)
        return [f"All through this film of {length}, {scenes[0].phrase.clause()}."]
    sentences = [_film_sentence(scenes, index) for index in range(len(scenes))]
    starts = _paragraph_starts(len(scenes))
    ends = [*starts[1:], len(scenes)]
    return [" ".join(sentences[start:end]) for start, end in zip(starts, ends, strict=True)]


def _film_sentence(scenes: list[Scene], index: int) -> str:
    scene, phrase = scenes[index], scenes[index].phrase
    last = index == len(scenes) - 1
    brief = scene.length < _MOMENT_S
    if brief and (index == 0 or last):
        return f"The film {'opens' if index == 0 else 'ends'} with {phrase.noun_phrase()}."
    seen = any(likeness(earlier.words, scene.words) >= SAME_SCENE for earlier in scenes[: max(index - 1, 0)])
    known = seen or (
        index > 0 and phrase.verb is not None and scenes[index - 1].phrase.subject == phrase.subject
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


def _tell_pictures(different: list[Scene], timeline: Timeline) -> list[str]:
    if len(different) == 1:
        return [_pictures_of_one_thing(different[0], timeline.pictures)]
    told = spread(different, _MOST_TOLD)
    among = len(told) < len(different)
    groups = _sentence_groups(told)
    sentences = [_pictures_sentence(group, at, len(groups), among) for at, group in enumerate(groups)]
    paragraphs = [" ".join(sentences)]
    common = _common_thing(timeline)
    return [*paragraphs, common] if common else paragraphs


def _pictures_of_one_thing(scene: Scene, pictures: int) -> str:
    thing = scene.phrase.noun_phrase()
    if pictures == 1:
        return f"The picture shows {thing}."
    every = "Both pictures" if pictures == 2 else f"All {number(pictures)} pictures"
    return f"{every} show {thing}."


def _pictures_sentence(group: list[Scene], at: int, count: int, among: bool) -> str:
    phrases = [scene.phrase for scene in group]
    things = series([phrase.noun_phrase() for phrase in phrases])
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


def _common_thing(timeline: Timeline) -> str | None:
    """Return a sentence on what most of the pictures have in common, when they do."""
    if timeline.pictures < 6 or timeline.common is None:
        return None
    noun, count = timeline.common
    if count < max(3, _COMMON_SHARE * timeline.pictures):
        return None
    things = plural(noun).capitalize()
    if count == timeline.pictures:
        return f"{things} appear in every one of the {number(timeline.pictures)} pictures."
    return f"{things} appear in {number(count)} of the {number(timeline.pictures)} pictures."


def series(things: list[str]) -> str:
    """Return things as a list in a sentence: "a cup, a hat, and a dog"."""
    if len(things) < 3:
        return " and ".join(things)
    return ", ".join(things[:-1]) + ", and " + things[-1]
