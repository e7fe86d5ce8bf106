"""The provider ``openai``."""

from __future__ import annotations

from pipeline.stories.providers import StoryFailed, Told, Wanted
from pipeline.stories.story import Turn
from pipeline.stories.story_settings import StorySettings


class Endpoint:
    """Tells stories by a language model behind OpenAI's protocol."""

    def __init__(self, settings: StorySettings) -> None:
        self._settings = settings

    def tell(self, wanted: Wanted, told: Told) -> Turn:
        raise StoryFailed(f"{self._settings.where}: nothing is asked there yet", unreachable=True)
