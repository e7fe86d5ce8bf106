"""How a story comes about: begun, gone on with, steered; turns told anew, or dropped.

Nothing here changes a story: each function returns another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.errors import WrongUsage
from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.stories.llm_output import without_controls
from pipeline.stories.outline_provider import Outline
from pipeline.stories.providers import PROVIDERS, Provider, Told, Wanted
from pipeline.stories.story import Story, Turn
from pipeline.stories.story_settings import StorySettings, story_settings
from pipeline.stories.timeline import Material, Timeline, timeline_of

LONGEST_PROMPT = 1000
"""Characters of a line that steers."""


def nothing(piece: str) -> None:
    """Listen to nothing of what is told."""


def start_story(
    material: Material,
    provider: str = "outline",
    *,
    prompt: str | None = None,
    told: Told = nothing,
    settings: StorySettings | None = None,
) -> Story:
    """Begin a story.

    Args:
        material: what it is told from; its rows are read once.
        provider: one of ``PROVIDERS``.
        prompt: a line of the user's own that says how.
        told: gets the text in pieces while it comes.
        settings: of the ``openai`` provider; None is what the environment says.

    Raises WrongUsage for an unknown provider, an empty text and settings that make no sense, StoryFailed when
    the provider has no story to tell.
    """
    if material.text is not None and not material.text.strip():
        raise WrongUsage("the text that the story should begin with is empty")
    timeline = timeline_of(material)
    title = " ".join(material.title.split()) or "Story"
    wanted = Wanted("start", title, timeline, prompt=_line(prompt))
    turn = _provider(provider, settings).tell(wanted, told)
    return Story(title=title, source=material.source, turns=(turn,), timeline=timeline)


def continue_story(
    story: Story,
    provider: str = "outline",
    *,
    prompt: str | None = None,
    told: Told = nothing,
    settings: StorySettings | None = None,
) -> Story:
    """Add a turn; with a ``prompt`` the user's line steers it. Arguments and errors as in ``start_story``."""
    line = _line(prompt)
    kind = "continue" if line is None else "steer"
    wanted = Wanted(kind, story.title, _timeline(story), story.turns, line)  # type: ignore[arg-type]
    return replace(story, turns=(*story.turns, _provider(provider, settings).tell(wanted, told)))


def redo_turn(
    story: Story,
    index: int,
    provider: str | None = None,
    *,
    prompt: str | None = None,
    told: Told = nothing,
    settings: StorySettings | None = None,
) -> Story:
    """Tell turn ``index`` (from 0) anew, after the turns before it; those after it stay.

    ``provider`` None is who told it before, ``prompt`` None the line that steered it before. Otherwise as
    ``start_story``. Raises WrongUsage where there is no such turn.
    """
    old = _turn(story, index)
    line = _line(prompt) or old.prompt
    kind = old.kind if index == 0 else "continue" if line is None else "steer"
    wanted = Wanted(kind, story.title, _timeline(story), story.turns[:index], line, instead=old.text)
    turn = _provider(provider or old.provider, settings).tell(wanted, told)
    return replace(story, turns=(*story.turns[:index], turn, *story.turns[index + 1 :]))


def drop_turn(story: Story, index: int) -> Story:
    """Leave turn ``index`` (from 0) out. Raises WrongUsage for the first, and where there is no such turn."""
    _turn(story, index)
    if index == 0:
        raise WrongUsage("the turn that the story begins with cannot be dropped; redo it, or begin a story")
    return replace(story, turns=(*story.turns[:index], *story.turns[index + 1 :]))


def outline_story(info: SourceInfo, rows: Iterable[Row]) -> Story:
    """Return the story of a source's captions: its scenes in order, told in plain sentences.

    The same rows always give the same story. ``rows`` is read once, as a stream.
    """
    return start_story(material_of(info, rows))


def material_of(info: SourceInfo, rows: Iterable[Row]) -> Material:
    """The captions of a source as material, with a title made of its name."""
    return Material(_title(info), info.key, info, rows)


def _title(info: SourceInfo) -> str:
    name = PurePosixPath(info.name).stem if info.kind == "video" else info.name
    text = " ".join(name.replace("_", " ").replace("-", " ").split())
    return text[:1].upper() + text[1:] or info.name


def _provider(name: str, settings: StorySettings | None) -> Provider:
    if name == "outline":
        return Outline()
    if name == "openai":
        from pipeline.stories.openai_provider import Endpoint

        return Endpoint(settings or story_settings())
    raise WrongUsage(f"nobody called {name!r} tells stories; name one of {', '.join(PROVIDERS)}")


def _turn(story: Story, index: int) -> Turn:
    if not 0 <= index < len(story.turns):
        last = len(story.turns) - 1
        raise WrongUsage(f"the story has no turn {index}; its turns are 0 to {last}")
    return story.turns[index]


def _timeline(story: Story) -> Timeline:
    """What the story is told from; of one that an earlier version wrote, its own text."""
    return story.timeline or Timeline("text", text=story.turns[0].text)


def _line(prompt: str | None) -> str | None:
    """A person's line as one line; None where it says nothing."""
    line = " ".join(without_controls(prompt or "").split())
    if len(line) > LONGEST_PROMPT:
        raise WrongUsage(f"the line that steers is {len(line)} characters long; {LONGEST_PROMPT} are allowed")
    return line or None
