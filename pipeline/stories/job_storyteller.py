"""The story of a source, when its captions are there: told, left out, or failed without harm to them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable

from pipeline.errors import WrongUsage
from pipeline.records.row import Row
from pipeline.records.source_info import SourceInfo
from pipeline.stories import (
    Story,
    StoryFailed,
    material_of,
    require_endpoint,
    start_story,
    story_settings,
)

_log = logging.getLogger("gpucapt")

_PATIENCE = 3
_REST_S = 60.0


class Storyteller:
    """Tells stories for a job.

    An endpoint that is down costs a job little: after some failures in a row it is left alone for a while,
    and the stories that would be told meanwhile fail at once.
    """

    def __init__(self, patience: int = _PATIENCE, rest_s: float = _REST_S) -> None:
        self._patience = patience
        self._rest_s = rest_s
        self._lock = threading.Lock()
        self._failures = 0
        self._resting_until = 0.0
        self._why = ""

    def tell(
        self, info: SourceInfo, rows: Iterable[Row], go_on: Callable[[], None]
    ) -> tuple[Story | None, str | None]:
        """The story, if there is to be one; else why it could not be told, if it should have been.

        ``go_on`` is called now and then, and raises to end the work early.
        """
        provider = str(info.settings.get("story", "outline"))
        if provider == "none":
            return None, None
        if provider == "outline":
            return start_story(material_of(info, rows)), None
        try:
            self._refuse_while_resting()
            story = start_story(material_of(info, rows), provider, told=lambda piece: go_on())
        except (StoryFailed, WrongUsage) as error:
            self._note(error)
            _log.warning("no story for %s: %s", json.dumps(info.key, ensure_ascii=False), error)
            return None, f"the story could not be told: {error}"
        self._failures = 0
        return story, None

    def _refuse_while_resting(self) -> None:
        if time.monotonic() < self._resting_until:
            raise StoryFailed(f"{self._why} (not asked again, as others before have failed)")

    def _note(self, error: StoryFailed | WrongUsage) -> None:
        if not getattr(error, "unreachable", True):
            return
        with self._lock:
            self._failures += 1
            if self._failures >= self._patience:
                self._failures = 0
                self._resting_until, self._why = time.monotonic() + self._rest_s, str(error)


def check_provider(provider: str) -> None:
    """Raise WrongUsage before any work where stories cannot be told because settings are missing."""
    if provider == "openai":
        require_endpoint(story_settings())
