"""A story and its turns, and the two files that keep it: story.json and story.md."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from model.errors import GpucaptError
from pipeline.errors import one_line
from pipeline.stories.llm_output import without_controls
from pipeline.stories.timeline import Timeline, as_text

FORMAT = 2
"""1: without material."""

TurnKind = Literal["start", "continue", "steer"]

_MARKDOWN_MARKS = re.compile(r"([\\`*_\[\]<>#&|~])")
_LINE_START_MARKS = re.compile(r"^(\s*)([-+=]|\d+[.)])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Turn:
    """One piece of a story, in the order of telling.

    ``text`` is plain text, its paragraphs parted by an empty line. ``prompt`` is the line by which a person
    steered it. ``model`` names the language model, where one told it.
    """

    kind: TurnKind
    provider: str
    text: str
    prompt: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        _hold_no_controls(self, "text", "prompt", "model")


@dataclass(frozen=True, slots=True)
class Story:
    """What was told of a source: a title and the turns so far.

    ``timeline`` is what it is told from; stories that an earlier version wrote have none.
    """

    title: str
    source: str
    turns: tuple[Turn, ...]
    timeline: Timeline | None = None

    def __post_init__(self) -> None:
        _hold_no_controls(self, "title")

    @property
    def paragraphs(self) -> list[str]:
        """All paragraphs of all turns, as plain text."""
        parts = [part.strip() for turn in self.turns for part in re.split(r"\n\s*\n", turn.text)]
        return [part for part in parts if part]

    def to_markdown(self) -> str:
        """Return the story as Markdown: the title as a heading, then the paragraphs, without the prompts."""
        title = " ".join(self.title.split())
        blocks = [f"# {_markdown(title)}", *(_markdown(text) for text in self.paragraphs)]
        return "\n\n".join(blocks) + "\n"

    def to_fields(self) -> dict[str, object]:
        """Return the story with its turns as JSON types (pipeline/schemas/story.schema.json)."""
        return {
            "format": FORMAT,
            "title": self.title,
            "source": self.source,
            "turns": [asdict(turn) for turn in self.turns],
            "material": None if self.timeline is None else self.timeline.to_fields(),
        }

    def to_json(self) -> str:
        """Return the content of story.json."""
        fields = self.to_fields()
        text = json.dumps(fields, indent=2, ensure_ascii=False)
        if not _fits_utf8(text):  # a title made of a strange file name
            text = json.dumps(fields, indent=2, ensure_ascii=True)
        return text + "\n"

    @classmethod
    def from_json(cls, text: str) -> Story:
        """Return the story that ``to_json`` wrote. Raises GpucaptError when ``text`` is not one."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _no_story(error) from error
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: Any) -> Story:
        """Return the story that ``to_fields`` gave. Raises GpucaptError when it is none."""
        try:
            if fields.get("format", FORMAT) not in (1, FORMAT):
                raise ValueError("another version of gpucapt made it")
            material = fields.get("material")
            story = cls(
                title=as_text(fields["title"]),
                source=as_text(fields["source"]),
                turns=tuple(_turn(turn) for turn in fields["turns"]),
                timeline=None if material is None else Timeline.from_fields(material),
            )
            if not story.turns:
                raise ValueError("it has no turns")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise _no_story(error) from error
        return story


def _hold_no_controls(shown: Turn | Story, *names: str) -> None:
    """Take out what a terminal might obey: captions, lines and files come from anybody."""
    for name in names:
        text = getattr(shown, name)
        if text is not None:
            object.__setattr__(shown, name, without_controls(text))


def _no_story(error: Exception) -> GpucaptError:
    return GpucaptError(one_line(f"not a story.json of gpucapt ({error}); make the story again"))


def _turn(fields: dict[str, Any]) -> Turn:
    kind = as_text(fields["kind"])
    if kind not in get_args(TurnKind):
        raise ValueError(f"unknown kind of turn {kind!r}")
    prompt, model = fields.get("prompt"), fields.get("model")
    return Turn(
        kind=cast(TurnKind, kind),
        provider=as_text(fields["provider"]),
        text=as_text(fields["text"]),
        prompt=None if prompt is None else as_text(prompt),
        model=None if model is None else as_text(model),
    )


def _fits_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _markdown(text: str) -> str:
    return _LINE_START_MARKS.sub(r"\1\\\2", _MARKDOWN_MARKS.sub(r"\\\1", text))
