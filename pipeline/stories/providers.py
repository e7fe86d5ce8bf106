"""What those who tell stories are asked, and what they promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from model.errors import GpucaptError
from pipeline.errors import one_line
from pipeline.stories.story import Turn, TurnKind
from pipeline.stories.timeline import Timeline

PROVIDERS = ("outline", "openai")
"""The names that people use."""

Told = Callable[[str], None]
"""Gets pieces of a turn's text while it is told, in order; may raise to end the telling."""


class StoryFailed(GpucaptError):
    """A story could not be told: the endpoint does not answer, refuses, or says nothing of use.

    It costs the turn, nothing else: captions and earlier turns stay as they are.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(one_line(message))
        self.unreachable = unreachable
        """Whether the endpoint as a whole is the reason, so that the next story would fare the same."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One turn that is wanted.

    ``before`` are the turns that come before it; ``prompt`` is a person's line. ``instead`` is the text that
    it is to replace, where it is told anew.
    """

    kind: TurnKind
    title: str
    timeline: Timeline
    before: tuple[Turn, ...] = ()
    prompt: str | None = None
    instead: str | None = None


class Provider(Protocol):
    """Tells one turn at a time."""

    def tell(self, wanted: Wanted, told: Told) -> Turn:
        """Return the turn; ``told`` has got its text in pieces by then. Raises StoryFailed."""
