"""How the provider ``outline`` begins a story, goes on with it and is steered: by rules, without a network.

It says what the captions say, and what a person's own line says; nothing else. Told to go on, it tells what
the turns before have passed over, then looks back, then says that this is all.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.stories.number_words import duration, number
from pipeline.stories.outline import outline_paragraphs, series
from pipeline.stories.outline_texts import opening_of_text, sentences_of, words_of
from pipeline.stories.providers import StoryFailed, Told, Wanted
from pipeline.stories.scenes import SAME_SCENE, Scene, likeness
from pipeline.stories.steering import Steering
from pipeline.stories.story import Turn
from pipeline.stories.timeline import Timeline

PROVIDER = "outline"

_SCENES_IN_TURN = 5
_INTRODUCTIONS = (
    "There was more to see.",
    "Some moments have gone unmentioned.",
    "And that was not all.",
)
_STANDS_OUT = 1.5


class Outline:
    """Tells what the captions say. The same story and the same line always give the same turn."""

    def tell(self, wanted: Wanted, told: Told) -> Turn:
        """Return the turn. Raises StoryFailed where the captions have nothing more to tell."""
        said = {turn.text for turn in wanted.before}
        possible = (text for text in _possible(wanted) if text not in said)
        first = next(possible, None)
        # Told anew, it is told another way, if there is another; after the last way comes the first.
        ways = [] if first is None else [first, *possible]
        if not ways:
            raise StoryFailed(
                "the captions have nothing more to tell; steer the story by a line of your own,"
                " or let a language model tell it (provider openai)"
            )
        at = ways.index(wanted.instead) + 1 if wanted.instead in ways else 0
        text = ways[at % len(ways)]
        told(text)
        return Turn(wanted.kind, PROVIDER, text, wanted.prompt)


def _possible(wanted: Wanted) -> Iterator[str]:
    """The ways to tell a turn, the best first."""
    if wanted.kind == "start":
        return _beginnings(wanted)
    if wanted.kind == "continue" or wanted.prompt is None:
        return _continuations(wanted)
    return _steered(wanted)


def _beginnings(wanted: Wanted) -> Iterator[str]:
    ways = list(dict.fromkeys([_opening(wanted.timeline), _summary(wanted.timeline)]))
    if wanted.prompt is None:
        yield from ways
        return
    steering = _steering(wanted)
    if steering.wants == "short":
        yield from reversed(ways)
    elif steering.statement:
        yield from (f"{steering.statement}\n\n{way}" for way in ways)
    elif steering.wants:
        yield from ways
    else:
        yield from (f"{way}\n\n{text}" for way in ways for text in _about(wanted.timeline, steering))


def _opening(timeline: Timeline) -> str:
    if timeline.text is not None:
        return opening_of_text(timeline.text)
    return "\n\n".join(outline_paragraphs(timeline))


def _summary(timeline: Timeline) -> str:
    """The whole in a sentence: how it begins, what takes most of it, how it ends."""
    if timeline.text is not None:
        return sentences_of(timeline.text)[0]
    scenes = timeline.scenes
    if len(scenes) < 3:
        return _opening(timeline)
    longest = max(scenes[1:-1], key=lambda scene: (scene.length, scene.frames))
    first, middle, last = (scene.phrase.noun_phrase() for scene in (scenes[0], longest, scenes[-1]))
    if timeline.kind == "video":
        length = duration(timeline.seconds)
        return f"In {length}, the film goes from {first}, by way of {middle}, to {last}."
    return (
        f"{number(timeline.pictures).capitalize()} pictures: {series([first, middle, last])}, among others."
    )


def _continuations(wanted: Wanted) -> Iterator[str]:
    timeline = wanted.timeline
    before = " ".join(turn.text for turn in wanted.before)
    untold = [scene for scene in timeline.scenes if not _is_told(scene, before)]
    for start in range(0, len(untold), _SCENES_IN_TURN):
        scenes = untold[start : start + _SCENES_IN_TURN]
        if timeline.kind == "video":
            yield f"{_INTRODUCTIONS[len(wanted.before) % len(_INTRODUCTIONS)]} {_film_scenes(scenes)}"
        else:
            alone = len(scenes) == 1 and scenes[0].frames == 1
            yield f"{'Another picture shows' if alone else 'Other pictures show'} {_things(scenes)}."
    yield from _looking_back(timeline)


def _is_told(scene: Scene, text: str) -> bool:
    phrase = scene.phrase
    ways = (phrase.noun_phrase(), phrase.clause(), phrase.clause(known=True))
    return any(way.removeprefix("we see ") in text for way in ways)


def _film_scenes(scenes: list[Scene]) -> str:
    """Some scenes of a film, each with its time."""
    sentences: list[str] = []
    last = ""
    for scene in scenes:
        at = "At the very beginning" if scene.start < 1.5 else f"After {duration(scene.start)}"
        sentences.append(f"{'A little later' if at == last else at}, {scene.phrase.clause()}.")
        last = at
    return " ".join(sentences)


def _things(scenes: list[Scene]) -> str:
    return series([scene.phrase.noun_phrase() for scene in scenes])


def _looking_back(timeline: Timeline) -> Iterator[str]:
    if timeline.text is not None:
        sentences = sentences_of(timeline.text)
        if len(sentences) > 1:
            yield f"Looking back, this is how it began: {sentences[0]}"
        return
    if len(timeline.scenes) > 1:
        yield from (text for text in (_most_seen(timeline),) if text)
        yield _closing(timeline)


def _most_seen(timeline: Timeline) -> str | None:
    """What took most of the film, or most of the pictures, if anything stands out."""
    film = timeline.kind == "video"
    kinds: list[list[Scene]] = []
    for scene in timeline.scenes:
        alike = next((kind for kind in kinds if likeness(kind[0].words, scene.words) >= SAME_SCENE), None)
        if alike is None:
            kinds.append([scene])
        else:
            alike.append(scene)
    sizes = [sum(scene.length if film else scene.frames for scene in kind) for kind in kinds]
    most = max(sizes)
    if sorted(sizes)[-2:][0] * _STANDS_OUT > most:
        return None
    thing = _things(kinds[sizes.index(most)][:1])
    if not film:
        count = f"{number(round(most))} of the {number(timeline.pictures)} pictures"
        return f"Looking back, {count} show {thing}."
    how_long = f"{duration(most)} of {duration(timeline.seconds)}"
    if most > 0.5 * timeline.seconds:
        return f"Looking back, most of the film shows {thing}: {how_long}."
    return f"Looking back, the film shows {thing} for longer than anything else: {how_long}."


def _closing(timeline: Timeline) -> str:
    first, last = (timeline.scenes[at].phrase.noun_phrase() for at in (0, -1))
    whole = "the film" if timeline.kind == "video" else "the series of pictures"
    return f"That is all that can be told: {whole} begins with {first} and ends with {last}."


def _steering(wanted: Wanted) -> Steering:
    timeline, line = wanted.timeline, wanted.prompt or ""
    if timeline.text is not None:
        return Steering.parse(line, [words_of(one) for one in sentences_of(timeline.text)])
    return Steering.parse(line, [scene.words for scene in timeline.scenes])


def _steered(wanted: Wanted) -> Iterator[str]:
    timeline, steering = wanted.timeline, _steering(wanted)
    if steering.statement:
        said = " ".join(turn.text for turn in wanted.before)
        following = (text for text in _continuations(wanted) if text not in said)
        yield from (f"{steering.statement} {text}" for text in following)
        yield steering.statement
    elif steering.wants == "short":
        yield _summary(timeline)
    elif steering.wants == "more":
        yield from _continuations(wanted)
    elif steering.wants:
        yield _some(timeline, [0 if steering.wants == "beginning" else -1])
    else:
        yield from _about(timeline, steering)


def _about(timeline: Timeline, steering: Steering) -> Iterator[str]:
    """What the captions say of the things that a line names."""
    if not steering.found:
        says = "The text says" if timeline.kind == "text" else "The captions say"
        yield f"{says} nothing of {steering.unknown}."
        return
    told = _some(timeline, list(steering.found[:_SCENES_IN_TURN]))
    yield f"Back to {steering.named}. {told}"
    yield f"Once more, {steering.named}. {told}"


def _some(timeline: Timeline, places: list[int]) -> str:
    """Some of what a timeline has: a film's scenes with their times, pictures in a series, or sentences."""
    if timeline.text is not None:
        sentences = sentences_of(timeline.text)
        return " ".join(sentences[place] for place in places)
    if not timeline.scenes:
        return "There is nothing to tell: no frame has a caption."
    scenes = [timeline.scenes[place] for place in places]
    if timeline.kind == "video":
        return _film_scenes(scenes)
    alone = len(scenes) == 1 and scenes[0].frames == 1
    return f"{'One picture shows' if alone else 'Some pictures show'} {_things(scenes)}."
