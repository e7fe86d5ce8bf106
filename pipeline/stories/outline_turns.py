"""How the provider ``outline`` begins a story, goes on with it and is steered: by rules, without a network.

It says what the captions say, and what a person's own line says; nothing else. Told to go on, it tells what
the turns before have passed over, then looks back, then says that this is all.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.stories.clock import duration, number
from pipeline.stories.outline import outline_paragraphs, series
from pipeline.stories.outline_texts import opening_of_text, sentence, sentences_of
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
    return _steered(wanted, Steering.parse(wanted.prompt, wanted.timeline.scenes))


def _beginnings(wanted: Wanted) -> Iterator[str]:
    ways = list(dict.fromkeys([_opening(wanted.timeline), _summary(wanted.timeline)]))
    if wanted.prompt is None:
        yield from ways
        return
    steering = Steering.parse(wanted.prompt, wanted.timeline.scenes)
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
        length = duration(timeline.seconds).removeprefix("about ")
        return f"A film of {length} that goes from {first}, by way of {middle}, to {last}."
    return (
        f"{number(timeline.pictures).capitalize()} pictures: {series([first, middle, last])}, among others."
    )


def _continuations(wanted: Wanted) -> Iterator[str]:
    timeline = wanted.timeline
    before = " ".join(turn.text for turn in wanted.before)
    untold = [scene for scene in timeline.scenes if not _is_told(scene, before)]
    for start in range(0, len(untold), _SCENES_IN_TURN):
        introduction = _INTRODUCTIONS[len(wanted.before) % len(_INTRODUCTIONS)]
        yield f"{introduction} {_tell(timeline, untold[start : start + _SCENES_IN_TURN])}"
    yield from _looking_back(timeline)


def _is_told(scene: Scene, text: str) -> bool:
    phrase = scene.phrase
    ways = (phrase.noun_phrase(), phrase.clause(), phrase.clause(known=True))
    return any(way.removeprefix("we see ") in text for way in ways)


def _tell(timeline: Timeline, scenes: list[Scene]) -> str:
    """Some of a timeline's scenes, in their order: of a film with the time, of pictures as a series."""
    if timeline.kind == "video":
        return " ".join(f"{_at(scene)}, {scene.phrase.clause()}." for scene in scenes)
    show = "picture shows" if len(scenes) == 1 and scenes[0].frames == 1 else "pictures show"
    return f"{'One' if show == 'picture shows' else 'Some'} {show} {_things(scenes)}."


def _things(scenes: list[Scene]) -> str:
    return series([scene.phrase.noun_phrase() for scene in scenes])


def _at(scene: Scene) -> str:
    return "At the very beginning" if scene.start < 1.5 else f"After {duration(scene.start)}"


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
    kinds: list[list[Scene]] = []
    for scene in timeline.scenes:
        alike = next((kind for kind in kinds if likeness(kind[0].words, scene.words) >= SAME_SCENE), None)
        if alike is None:
            kinds.append([scene])
        else:
            alike.append(scene)
    if timeline.kind == "video":
        most = max(kinds, key=lambda kind: sum(scene.length for scene in kind))
        length = sum(scene.length for scene in most)
        share = length / max(timeline.seconds, 1e-9)
        how = "most of the film" if share > 0.5 else "more of the film than anything else"
        thing = most[0].phrase.noun_phrase()
        return f"Looking back, {how} shows {thing}: {duration(length)} of {duration(timeline.seconds)}."
    most = max(kinds, key=lambda kind: sum(scene.frames for scene in kind))
    count = sum(scene.frames for scene in most)
    if count < 2:
        return None
    return (
        f"Looking back, {number(count)} of the {number(timeline.pictures)} pictures show {_things(most[:1])}."
    )


def _closing(timeline: Timeline) -> str:
    first, last = (timeline.scenes[at].phrase.noun_phrase() for at in (0, -1))
    whole = "the film" if timeline.kind == "video" else "the series of pictures"
    return f"That is all that can be told: {whole} begins with {first} and ends with {last}."


def _steered(wanted: Wanted, steering: Steering) -> Iterator[str]:
    timeline = wanted.timeline
    if steering.statement:
        following = _about(timeline, steering) if steering.scenes else _continuations(wanted)
        said = " ".join(turn.text for turn in wanted.before)
        yield from (f"{steering.statement} {text}" for text in following if text not in said)
        yield steering.statement
    elif steering.wants == "short":
        yield _summary(timeline)
    elif steering.wants == "more":
        yield from _continuations(wanted)
    elif steering.wants and timeline.scenes:
        yield _tell(timeline, [timeline.scenes[0 if steering.wants == "beginning" else -1]])
    else:
        yield from _about(timeline, steering)


def _about(timeline: Timeline, steering: Steering) -> Iterator[str]:
    """What the captions say of the things that a line names."""
    if not steering.scenes:
        whose = "the text" if timeline.kind == "text" else "the captions"
        yield sentence(f"{steering.unknown}: of that {whose} say{'s' if whose == 'the text' else ''} nothing")
        return
    scenes = list(steering.scenes[:_SCENES_IN_TURN])
    introductions = (f"Back to {steering.named}.", f"Once more, {steering.named}.")
    yield from (f"{introduction} {_tell(timeline, scenes)}" for introduction in introductions)
